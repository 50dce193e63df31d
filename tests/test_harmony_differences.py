"""The chapter's three-way table: two columns are what runs, the third is a record."""

import pytest
from harmony_oracle import harmony_oracle  # noqa: F401 - a fixture

from labhelpers.harmony.differences import DIFFERENCES, rows


@pytest.mark.parametrize("case", DIFFERENCES, ids=lambda case: case.case)
def test_the_library_s_column_is_what_it_renders(case, harmony_oracle):  # noqa: F811
    expected = case.ours() if case.library is None else case.library
    assert case.library_now() == expected
    assert expected and (case.library is None) == (case.library_now() == case.ours())


@pytest.mark.parametrize("case", DIFFERENCES, ids=lambda case: case.case)
def test_the_template_s_column_differs(case):
    assert case.template not in (case.ours(), "")


def test_rows_are_computed():
    table = {row.case: row for row in rows()}
    assert len(table) == len(DIFFERENCES) >= 20
    assert table["default"].ours == 'x?: string, // default: "a"'
    assert table["nullable number"].library == "x?: number | null,"
    assert table["array of an enum"].ours == 'x?: "a" | "b"[],'
    assert "NEW" in table["reasoning at the third question"].library
    assert "NEW" not in table["reasoning at the third question"].ours
    assert table["space in a recipient"].ours.startswith("refused: ")


def test_rows_without_the_library_show_what_was_checked(monkeypatch):
    with_it = rows()
    from labhelpers.harmony import oracle

    def missing():
        raise ImportError("openai-harmony")

    monkeypatch.setattr(oracle, "load_oracle", missing)
    assert rows() == with_it
