"""What two recordings have in common: every byte but those that say when and by whom a part was made."""

from pathlib import Path


def files(folder: Path) -> dict[str, bytes]:
    """Every file and its bytes but those that hold clock times."""
    timed = ("ledger/entries/*", "ledger/inputs/*", "ledger/lock")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(path.match(name) for name in timed)
    }


def same(store: Path, known: Path) -> None:
    """Assert that two stores hold the same files."""
    found, expected = files(store), files(known)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


def entries(store: Path) -> list[Path]:
    """The ledger's entries of what is done."""
    return sorted(store.glob("ledger/entries/*.json"))
