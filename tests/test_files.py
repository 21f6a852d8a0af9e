"""Tables on the disk: a byte that flips is noticed, or changes nothing that is read."""

import pandas as pd
import pytest

from lowrank.errors import InputError
from lowrank.files import growing_table, read_table, write_table

TABLE = pd.DataFrame(
    {
        "problem_id": [f"p{i}" for i in range(40)],
        "sample": range(40),
        "answer": [None if i % 7 == 0 else str(i * i) for i in range(40)],
        "correct": [i % 3 == 0 for i in range(40)],
    }
)


def grown(path, table):
    with growing_table(path) as append:
        append(table)


@pytest.mark.parametrize("write", [write_table, grown])
@pytest.mark.parametrize("bit", [1, 64])
def test_no_flipped_bit_changes_a_value(tmp_path, write, bit):
    """Values lie under checksums of their pages; the file's end says what columns there are."""
    path = tmp_path / "grades.parquet"
    write(path, TABLE)
    whole, table = path.read_bytes(), read_table(path)
    end = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    noticed = []
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        try:
            found = read_table(path)
        except InputError:
            noticed += [place] if place < end else []
        else:
            if place < end:
                pd.testing.assert_frame_equal(found, table)
    assert len(noticed) > 0.8 * end / 5
    place = noticed[0]
    path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
    with pytest.raises(InputError, match=r"grades.parquet: not a readable .parquet table"):
        read_table(path)
