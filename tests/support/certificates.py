"""A certificate authority, and what it signs, made by openssl."""

from pathlib import Path

from tests.support.processes import run
from tests.support.programs import require_program

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Authority:
    """A private authority; its certificate is `ca`.

    Args:
        directory: for all its files.
        name: of it.
    """

    def __init__(self, directory: Path, name: str = "ca") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.ca = directory / f"{name}.pem"
        self._directory = directory
        self._key = directory / f"{name}.key"
        self._openssl("req", "-x509", *_KEY, "-keyout", self._key, "-out", self.ca, "-subj", f"/CN={name}")

    def sign(self, name: str, days: int = 2, common_name: str = "localhost") -> tuple[Path, Path]:
        """Make a certificate for `localhost`, or of a client by `common_name`, and its key.

        Args:
            name: of the files.
            days: that it is valid from now on; -1 is one that expired yesterday.
            common_name: what it is made out to.
        """
        certificate, key, request = (self._directory / f"{name}.{each}" for each in ("pem", "key", "csr"))
        names = self._directory / f"{name}.names"
        names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self._openssl("req", *_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={common_name}")
        signed = ["-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-days", str(days), "-extfile", names]
        self._openssl("x509", "-req", "-in", request, "-out", certificate, *signed)
        return certificate, key

    def _openssl(self, *arguments: str | Path) -> None:
        done = run([require_program("openssl"), *map(str, arguments)], self._directory)
        assert 0 == done.returncode, done.stderr
