from __future__ import annotations

import inspect

import pytest

from rootsweep import errors

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and value.__module__ == errors.__name__
]


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_is_named_as_such_and_says_when_it_is_raised(error: type[Exception]) -> None:
    assert error.__name__.endswith("Error")
    assert (error.__doc__ or "").startswith("When ")


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_is_no_kind_of_another_for_step_functions_compares_names(
    error: type[Exception],
) -> None:
    assert error.__bases__ == (Exception,)
