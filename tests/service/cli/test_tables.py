"""`bespoke tables`: versions, and what an import says."""

from __future__ import annotations

import json
from pathlib import Path

from tests.service.cli.conftest import Bespoke
from tests.service.cli.test_commands import add_device, table_file


def test_versions_are_listed_used_and_deleted(bespoke: Bespoke, tmp_path: Path) -> None:
    add_device(bespoke, "versions")
    good = table_file(tmp_path)
    assert "version 1 is in use" in bespoke("tables", "import", "versions", good).out
    assert "version 2 is in use" in bespoke("tables", "import", "versions", table_file(tmp_path, "b.csv", 1.2)).out
    assert "version 1 is in use again" in bespoke("tables", "import", "versions", good).out
    assert "version 2 is in use" in bespoke("tables", "use", "versions", "2").out
    listed = json.loads(bespoke("tables", "list", "versions", "--json").out)
    assert [(t["version"], t["in_use"], t["created_by"]) for t in listed] == [(2, True, "owner"), (1, False, "owner")]
    shown = bespoke("tables", "list", "versions").out
    assert "in use" in shown and "owner" in shown and listed[0]["id"] in shown
    deleted = bespoke("tables", "delete", "versions", "2", "--yes")
    assert "version 2 is deleted; version 1 is in use" in deleted.out, deleted.err
    missing = bespoke("tables", "use", "versions", "7")
    assert missing.status == 1 and "there are: 1" in missing.err


def test_a_doubtful_table_is_accepted_by_name_with_a_reason(bespoke: Bespoke, tmp_path: Path) -> None:
    add_device(bespoke, "doubtful")
    file = table_file(tmp_path)
    lines = file.read_text().splitlines()
    lines[5] = lines[5].split(",")[0] + ",1e-9,,,"
    file.write_text("\n".join(lines) + "\n")
    imported = bespoke("tables", "import", "doubtful", file)
    assert "needs review" in imported.out and "bespoke tables accept doubtful 1" in imported.out
    refused = bespoke("tables", "use", "doubtful", "1")
    assert refused.status == 1 and "accept" in refused.err
    accepted = bespoke("tables", "accept", "doubtful", "1", "--note", "measured twice")
    assert "accepted by owner and in use" in accepted.out, accepted.err
    assert "measured twice" in bespoke("tables", "list", "doubtful").out
    assert "accepted by owner" in bespoke("devices", "show", "doubtful").out


def test_an_import_that_loses_coverage_says_so_and_add_keeps_both(bespoke: Bespoke, tmp_path: Path) -> None:
    add_device(bespoke, "narrow")
    file = table_file(tmp_path)
    rows = file.read_text().splitlines()
    sizes = {"8": tmp_path / "8.csv", "rest": tmp_path / "rest.csv"}
    bespoke("tables", "import", "narrow", file)
    no_seven = [row for row in rows if "/kernel=7/" not in row]
    sizes["8"].write_text("\n".join(no_seven) + "\n")
    lost = bespoke("tables", "import", "narrow", sizes["8"])
    assert lost.status == 0 and "does not cover digits-mbv3" in lost.err and "--add" in lost.err
    assert "covers no space" in lost.err and "lacks 15 of 48" in lost.err
    sizes["rest"].write_text("\n".join([rows[0], *(row for row in rows if "/kernel=7/" in row)]) + "\n")
    added = bespoke("tables", "import", "narrow", sizes["rest"], "--add")
    assert "every resolution" in added.out, added.err
