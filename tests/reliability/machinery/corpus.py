"""Raw bytes that systems of this kind have stumbled over. Every entry: a name, and bytes that must be
refused."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import zipfile

HUGE = 10**5
NOT_JSON: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n\t ",
    "nul": b"\x00",
    "not_utf8": b'{"name": "\xff\xfe"}',
    "bom": b"\xef\xbb\xbf{}",
    "utf16": '{"name": "x"}'.encode("utf-16"),
    "utf32": '{"name": "x"}'.encode("utf-32"),
    "lone_surrogate": b'{"name": "\\ud800"}',
    "lone_surrogate_key": b'{"\\udfff": 1}',
    "nul_in_text": b'{"name": "a\\u0000b"}',
    "nan": b'{"name": NaN}',
    "infinity": b'{"name": Infinity}',
    "minus_infinity": b'{"name": -Infinity}',
    "overflow": b'{"name": 1e999}',
    "digits_5000": b'{"name": ' + b"9" * 5000 + b"}",
    "too_large_integer": b'{"name": 9223372036854775808}',
    "brackets_100k": b"[" * HUGE,
    "braces_50k": b'{"a":' * (HUGE // 2),
    "nested_closed": b"[" * 5000 + b"]" * 5000,
    "duplicate_key": b'{"name": "a", "name": "b"}',
    "truncated": b'{"name": "a',
    "two_documents": b"{}{}",
    "comment": b'{"name": 1} // x',
    "single_quotes": b"{'name': 1}",
    "trailing_comma": b'{"name": 1,}',
    "yaml": b"name: &a [x, *a]\n",
    "yaml_object": b"!!python/object/apply:os.system ['true']",
    "pickle": pickle.dumps({"name": "x"}),
    "gzip": gzip.compress(b"{}"),
    "npy": b"\x93NUMPY\x01\x00v\x00{'descr': '|O'}",
}
NOT_AN_OBJECT: dict[str, bytes] = {
    "null": b"null",
    "true": b"true",
    "number": b"1",
    "text": b'"x"',
    "list": b"[]",
    "empty_object": b"{}",
    "wrong_fields": b'{"__proto__": {}, "constructor": 1, "": 0}',
    "deep_31": b'{"a":' * 30 + b"1" + b"}" * 30,
}
NOT_A_LATENCY = (
    "-1", "0", "-0.0", "5e-324", "1e12", "true", "false", '"1"', '"1_0"', '"5ms"', "null", "[]", "{}", "NaN", "Infinity", "1e999",
    "-1e-300", "1e7", "9" * 5000,
)  # fmt: skip
TRAVERSALS: tuple[str, ...] = tuple(
    f"{before}{path}{after}"
    for path in ("etc/passwd", "proc/self/environ", "owner.key")
    for before, after in (
        ("../" * 6, ""), ("/", ""), ("..%2f" * 4, ""), ("..%252f" * 4, ""), ("file:///", ""), ("file:", ""), ("\\..\\..\\", ""),
        ("....//....//", ""), ("./", ""), ("~/", ""), ("..;/", ""), ("/./", "#x"), ("../", "?x"), ("http://127.0.0.1/", ""),
        ("s3://bucket/", ""), ("．．／", ""), ("‥/", ""), ("digits/../../", ""), ("digits#", ""), ("digits%00", ""),
        ("", "\x00.json"),
    )
)  # fmt: skip
LOOPBACKS = (
    "127.0.0.1", "localhost", "2130706433", "0x7f000001", "017700000001", "127.1", "127.0.1", "0", "0.0.0.0", "[::1]", "[::]",
    "[::ffff:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "127.0.0.1.nip.io", "0177.0.0.1", "0x7f.1", "①②⑦.0.0.1", "user@127.0.0.1",
    "127.0.0.1%2f", "169.254.169.254",
)  # fmt: skip
SQL = (
    "' OR '1'='1", "'; DROP TABLE jobs; --", '" OR ""="', "1; SELECT pg_sleep(5)", "%", "_", "%' --", "\\'",
    "') UNION SELECT 1 --",
    "$$; --", "{{7*7}}", "${jndi:ldap://127.0.0.1/a}", "x" * 10_000,
)  # fmt: skip
CONTROL = ("a\r\nb", "\x1b[31mred", "${jndi:ldap://x}", "\u2028", "\u202e", "x" * 10_240, "\x7f", "a\tb")


def not_a_table_csv() -> dict[str, bytes]:
    """CSV bodies that are no latency table."""
    head = b"operator,median_ms\n"
    return {
        "ragged": head + b"conv2d,1,2\n",
        "short_row": head + b"x\n",
        "duplicate_header": b"operator,operator,median_ms\nx,x,1\n",
        "semicolons": b"operator;median_ms\nx;1\n",
        "formula": head + b"=cmd()|' /C calc'!A0,1\n",
        "formula_value": head + b"x,=1+1\n",
        "gzip": gzip.compress(head + b"x,1\n"),
        "unknown_column": b"operator,median_ms,tenant_id\nx,1,y\n",
        "unclosed_quote": head + b'"x,1\n',
        "nul": head + b"x\x00,1\n",
        "not_utf8": head + b"\xff,1\n",
        "no_header": b"x,1\n",
        "empty": b"",
        "header_only": head,
        "bad_numbers": head
        + b"".join(f"x,{value}\n".encode() for value in ("nan", "inf", "-1", "1_0", "0x1", " 1", "1e999")),
        "long_line": head + b"x" * 200_000 + b",1\n",
    }


def disguises() -> dict[str, bytes]:
    """Files of formats that carry code, whatever they are called."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../evil", "x")
        file.writestr("data.pkl", pickle.dumps([1]))
    return {
        "zip_or_pt_or_npz": archive.getvalue(),
        "pickle": pickle.dumps({"a": 1}),
        "yaml": b"a: &a [1]\nb: *a\n",
        "gzip": gzip.compress(json.dumps({"context": {}, "rows": []}).encode()),
        "tar": b"evil".ljust(257, b"\0") + b"ustar",
        "onnx": b"\x08\x07\x12\x04test",
    }


def mutated(body: bytes, generator: random.Random) -> bytes:
    """A body with a few random changes of bytes."""
    changed = bytearray(body)
    for _ in range(generator.randint(1, 4)):
        kind, at = generator.randrange(4), generator.randrange(len(changed) + 1)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            changed[at:at] = generator.choice(
                [b"{", b"[", b'"', b"\\u0000", b"-", b"1e400", b"null", b",", b"\xff"]
            )
        elif kind == 2:
            del changed[at : at + generator.randint(1, 8)]
        else:
            changed[at:at] = changed[: generator.randrange(len(changed) + 1)]
    return bytes(changed)
