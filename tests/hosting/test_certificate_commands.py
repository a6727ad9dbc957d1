"""cleanmail certificate: what was certified is listed, handed out, and verified offline with the public key alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from erasure_certificates import INSTALLATION, Signer, certificate

from hosting import cli, composition, config
from storage.certificates.attachment import attached
from storage.certificates.issuing import issue_and_keep, pages
from storage.certificates.signing import issue, pem

ROOT = Path(__file__).resolve().parents[2]
NUMBER = certificate().certificate_id
SIGNER = Signer()

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With one certificate."""
    data = tmp_path_factory.mktemp("certified") / "data"
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text("")
    assert cli.run(["--data", str(data), "init"]) == 0
    with composition.key_source(data, config.load(data / "cleanmail.toml")) as keys:
        issue_and_keep(certificate(), keys, data)
    return data


@pytest.fixture
def run(data: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def running(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.run(["--data", str(data), "certificate", *arguments])
        return status, *capsys.readouterr()

    return running


def test_certificates_are_listed_shown_and_handed_out(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("list", "--json")
    assert status == 0
    assert [each["certificate"] for each in json.loads(out)] == [NUMBER]
    assert json.loads(run("list", "--tenant", "acme", "--json")[1])
    assert not json.loads(run("list", "--tenant", "other", "--json")[1])
    assert "acme.example" in run("show", NUMBER)[1]
    for name in ("c.json", "c.pdf"):
        assert run("export", NUMBER, str(tmp_path / name))[0] == 0
        assert run("export", NUMBER, str(tmp_path / name))[::2] == (
            1,
            f"cleanmail: {tmp_path / name} exists already.\n",
        )
        assert "is genuine and unchanged" in run("verify", str(tmp_path / name))[1]
        assert run("verify", str(tmp_path / name), "--installation", "0" * 32)[0] == 1
        assert run("verify", str(tmp_path / name), "--installation", INSTALLATION)[0] == 0
    assert attached((tmp_path / "c.pdf").read_bytes()) == (tmp_path / "c.json").read_bytes()
    assert run("show", "none")[0] == 1


def test_the_published_key_verifies(run: Run, tmp_path: Path) -> None:
    assert run("export", NUMBER, str(tmp_path / "c.json"))[0] == 0
    hexadecimal = run("key")[1].strip()
    (tmp_path / "key.pem").write_text(run("key", "--pem")[1])
    (tmp_path / "key.hex").write_text(hexadecimal)
    for key in (hexadecimal, str(tmp_path / "key.pem"), str(tmp_path / "key.hex")):
        assert run("verify", str(tmp_path / "c.json"), "--key", key)[0] == 0


DOCUMENT = issue(certificate(), SIGNER)
PDF = pages(DOCUMENT)


@pytest.mark.parametrize(
    ("name", "octets", "key", "sentence"),
    [
        ("c.json", DOCUMENT.replace(b'"accounts":23', b'"accounts":22'), SIGNER.public.hex(), "changed after it"),
        ("c.json", DOCUMENT[:-40], SIGNER.public.hex(), "is damaged"),
        ("c.json", DOCUMENT, Signer(b"\x05" * 32).public.hex(), "not with the key"),
        ("c.json", DOCUMENT, "abc", "'abc' is no file, nor an Ed25519 public key"),
        ("c.json", b"", SIGNER.public.hex(), "is damaged"),
        ("c.pdf", PDF.replace(b'"accounts":23', b'"accounts":22'), SIGNER.public.hex(), "changed after it"),
        ("c.pdf", PDF[:3000], SIGNER.public.hex(), "it ends inside its attachment"),
        ("c.pdf", PDF[:100], SIGNER.public.hex(), "No signed certificate is attached"),
        (None, b"", SIGNER.public.hex(), "cannot be read"),
    ],
)
def test_what_does_not_verify_gets_one_sentence(
    run: Run, tmp_path: Path, name: str | None, octets: bytes, key: str, sentence: str
) -> None:
    file = tmp_path / (name or "missing")
    if name is not None:
        file.write_bytes(octets)
    status, out, err = run("verify", str(file), "--key", key)
    assert (status, out) == (1, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_who_has_no_installation_is_told_to_name_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.json").write_bytes(DOCUMENT)
    arguments = ["certificate", "verify", str(tmp_path / "c.json")]
    assert cli.run(["--data", str(tmp_path / "none"), *arguments]) == 1
    said = capsys.readouterr()
    assert "--key FILE|HEX" in said.err and "init" not in said.err and said.out == ""
    assert not (tmp_path / "none").exists()


def test_changed_pages_are_told(run: Run, tmp_path: Path) -> None:
    """The attachment is genuine; what is printed around it was not made by this program."""
    changed = PDF.replace(b"/Title (Certificate", b"/Title (Certified!!")
    another = b"\n9 0 obj\n<< /Type /Embedded#46ile /Length 2 >>\nstream\n{}\nendstream\nendobj\n"  # as viewers see it
    for octets in (changed, PDF + another):
        (tmp_path / "c.pdf").write_bytes(octets)
        status, out, err = run("verify", str(tmp_path / "c.pdf"), "--key", SIGNER.public.hex())
        assert (status, "Believe what stands here" in err) == (4, True)
        assert "The attached certificate is genuine" in out and "The certificate is genuine" not in out
        status, out, _ = run("verify", str(tmp_path / "c.pdf"), "--key", SIGNER.public.hex(), "--json")
        assert (status, json.loads(out)["genuine"], json.loads(out)["pages_match"]) == (4, True, False)
    for name, octets, pages_match in (("d.pdf", PDF, True), ("d.json", DOCUMENT, None)):
        (tmp_path / name).write_bytes(octets)
        status, out, err = run("verify", str(tmp_path / name), "--key", SIGNER.public.hex(), "--json")
        assert (status, err, json.loads(out)["pages_match"]) == (0, "", pages_match)


def test_verifying_needs_the_public_key_alone(tmp_path: Path) -> None:
    """As a customer or an auditor does it: no data directory, no environment, nobody's home."""
    (tmp_path / "key.pem").write_text(pem(SIGNER.public))
    for name, octets in (("c.json", DOCUMENT), ("c.pdf", PDF)):
        (tmp_path / name).write_bytes(octets)
        command = [sys.executable, "-m", "hosting.cli", "certificate", "verify", name, "--key", "key.pem", "--json"]
        done = subprocess.run(
            command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["customer"] == "acme"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.json", "c.pdf", "key.pem"]
