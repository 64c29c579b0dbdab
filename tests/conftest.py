"""moto answers for the sessions of the SDK that are made after it was imported, and
`rootsweep.calls` makes one when it is imported: so moto comes first, whatever is collected first.
"""

import moto  # noqa: F401
