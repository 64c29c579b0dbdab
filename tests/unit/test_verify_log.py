"""The command that checks the decision log; it knows none of the code that writes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operate import verify_log
from operate.verify_log import BrokenEntryError, verify

from .builders import an_error

if TYPE_CHECKING:
    from pathlib import Path

BUCKET = "decisions"


def sealed(number: int, previous: str, **fields: Any) -> tuple[bytes, str]:
    """An entry as the log writes one, and its hash."""
    entry = {"number": number, "previous": previous, "what": "APPROVED", **fields}
    hash = verify_log.hashlib.sha256(verify_log._canonical(entry).encode()).hexdigest()
    return verify_log._canonical(entry | {"hash": hash}).encode(), hash


def chain(length: int, **fields: Any) -> dict[int, bytes]:
    made, previous = {}, "0" * 64
    for number in range(1, length + 1):
        text = {
            "reason": f"reason {number} \u00e9 \U0001f511",
            "keys": [{"id": "A", "status": "B"}],
        }
        made[number], previous = sealed(number, previous, **text, **fields)
    return made


CHAIN = chain(5)


def hash_of(entry: bytes) -> str:
    return str(json.loads(entry)["hash"])


def test_a_whole_chain_is_good() -> None:
    assert verify(CHAIN) == (5, hash_of(CHAIN[5]))


@given(st.data())
def test_one_changed_byte_of_any_entry_is_found_and_the_entry_named(data: Any) -> None:
    number = data.draw(st.integers(1, 5))
    content = CHAIN[number]
    at = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda each: each != content[at]))
    changed = content[:at] + bytes([byte]) + content[at + 1 :]

    with pytest.raises(BrokenEntryError) as broken:
        verify(CHAIN | {number: changed})

    assert broken.value.number == number


@given(st.data())
def test_an_entry_that_was_cut_or_got_more_is_found(data: Any) -> None:
    number = data.draw(st.integers(1, 5))
    content = CHAIN[number]
    at = data.draw(st.integers(0, len(content) - 1))
    changed = data.draw(
        st.sampled_from([content[:at], content + b"\n", content[:at] + b" " + content[at:]])
    )

    with pytest.raises(BrokenEntryError) as broken:
        verify(CHAIN | {number: changed})

    assert broken.value.number == number


def test_every_bit_of_an_entry_counts() -> None:
    for at in range(len(CHAIN[3])):
        for bit in range(8):
            changed = bytearray(CHAIN[3])
            changed[at] ^= 1 << bit
            with pytest.raises(BrokenEntryError, match=r"^entry 3 "):
                verify(CHAIN | {3: bytes(changed)})


@pytest.mark.parametrize("number", [1, 3, 4])
def test_an_entry_that_is_missing_is_named(number: int) -> None:
    left = {each: content for each, content in CHAIN.items() if each != number}

    with pytest.raises(BrokenEntryError, match=rf"^entry {number} is missing"):
        verify(left)


def test_entries_that_changed_places_are_named() -> None:
    with pytest.raises(BrokenEntryError, match=r"^entry 2 is in the wrong place: its number is 3"):
        verify(CHAIN | {2: CHAIN[3], 3: CHAIN[2]})


def test_an_entry_that_was_written_anew_breaks_the_chain_after_it() -> None:
    forged, _ = sealed(3, hash_of(CHAIN[2]), by="mallory@example.com")

    with pytest.raises(BrokenEntryError, match=r"^entry 4 does not follow entry 3"):
        verify(CHAIN | {3: forged})


def test_a_log_that_was_written_anew_or_cut_is_found_by_a_head_that_was_kept() -> None:
    head = (4, hash_of(CHAIN[4]))
    assert verify(CHAIN, head=head)[0] == 5

    with pytest.raises(BrokenEntryError, match=r"^entry 4 is another one than the head"):
        verify(chain(5, by="mallory@example.com"), head=head)
    with pytest.raises(BrokenEntryError, match=r"^entry 3 is missing"):
        verify({1: CHAIN[1], 2: CHAIN[2]}, head=head)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"hash":1}',
        b"{}",
        b'{"number":NaN}',
        b"1" * 5000,
    ],
)
def test_what_is_no_entry_at_all_is_named(content: bytes) -> None:
    with pytest.raises(BrokenEntryError, match=r"^entry 2 "):
        verify(CHAIN | {2: content})


# -- the command ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the log, beside something that is none of it."""
    for number, content in CHAIN.items():
        (tmp_path / f"{number:012}.json").write_bytes(content)
    (tmp_path / "notes.txt").write_text("hello")
    return tmp_path


def test_the_command_says_how_many_are_good_and_which_is_the_newest(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify_log.main(["--directory", str(folder)]) == 0

    said = capsys.readouterr().out
    head = f"5:{hash_of(CHAIN[5])}"
    assert said == f"5 entries, all good. The newest is {head}\n"
    assert verify_log.main(["--directory", str(folder), "--head", head]) == 0


def test_the_command_names_the_first_broken_entry(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (2, 4):
        path = folder / f"{number:012}.json"
        path.write_bytes(path.read_bytes().replace(b"reason", b"Reason"))

    assert verify_log.main(["--directory", str(folder)]) == 1

    assert capsys.readouterr().err == (
        "BROKEN: entry 2 is not written as it was exported. The 1 before it are good.\n"
    )


def test_what_cannot_be_read_is_not_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify_log.main(["--directory", str(tmp_path)]) == 2  # Empty.
    assert verify_log.main(["--directory", str(tmp_path / "nowhere")]) == 2
    head = f"1:{'0' * 64}"
    assert verify_log.main(["--directory", str(tmp_path), "--head", head]) == 1

    def denied(*_: Any) -> None:
        raise an_error("AccessDenied", "ListObjectVersions")

    monkeypatch.setattr(verify_log, "read_bucket", denied)
    assert verify_log.main(["--bucket", BUCKET]) == 2


@pytest.mark.parametrize("head", ["5", "0:" + "0" * 64, "5:xyz", "-1:" + "0" * 64])
def test_a_head_that_is_none_is_refused(folder: Path, head: str) -> None:
    with pytest.raises(SystemExit) as refused:
        verify_log.main(["--directory", str(folder), f"--head={head}"])

    assert refused.value.code == 2


# -- a bucket, which remembers versions -----------------------------------------------------------


@pytest.fixture
def in_bucket(log: Any, s3: Any) -> Any:  # noqa: ARG001
    """The client, and the log in its bucket."""
    for number, content in CHAIN.items():
        s3.put_object(Bucket=BUCKET, Key=f"entries/{number:012}.json", Body=content)
    s3.put_object(Bucket=BUCKET, Key="entries/readme", Body=b"hello")
    return s3


@pytest.mark.usefixtures("in_bucket")
def test_a_bucket_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert verify_log.main(["--bucket", BUCKET]) == 0

    assert "5 entries, all good" in capsys.readouterr().out


@pytest.mark.parametrize("content", [CHAIN[3], b"something else"])
def test_an_entry_with_two_versions_is_named(
    in_bucket: Any, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    in_bucket.put_object(Bucket=BUCKET, Key="entries/000000000003.json", Body=content)

    assert verify_log.main(["--bucket", BUCKET]) == 1

    assert "entry 3 was overwritten: it has 2 versions" in capsys.readouterr().err


@pytest.mark.parametrize("again", [False, True])
def test_an_entry_that_was_deleted_is_named(
    in_bucket: Any, capsys: pytest.CaptureFixture[str], again: bool
) -> None:
    in_bucket.delete_object(Bucket=BUCKET, Key="entries/000000000005.json")
    if again:
        in_bucket.put_object(Bucket=BUCKET, Key="entries/000000000005.json", Body=CHAIN[5])

    assert verify_log.main(["--bucket", BUCKET]) == 1

    assert "entry 5 was deleted" in capsys.readouterr().err
