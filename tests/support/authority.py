"""A certificate authority of the tests: certificates for this machine, in files."""

import datetime as dt
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_NOW = dt.datetime.now(dt.UTC)
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and of its key."""

    certificate: Path
    key: Path


class Authority:
    """An authority, whose own certificate is in the file `ca`.

    Args:
        directory: for its files.
        name: of the authority.
    """

    def __init__(self, directory: Path, name: str = "ca") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"Caterva2 tests {name}")
        builder = _builder(self._name, self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        made = builder.add_extension(usage, True).sign(self._key, hashes.SHA256())
        self._certificate = made
        self.ca = directory / f"{name}.pem"
        self.ca.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str = "localhost", file: str = "", *, client: bool = False, days: int = 30) -> Pair:
        """Make a certificate for a name, or for this machine's loopback, and write it to files.

        Args:
            name: the common name; servers on loopback are called localhost.
            file: what the files are called; another certificate there is replaced.
            client: whether it is one of a client.
            days: that it is valid from now on; -1 is one that expired yesterday.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        names = [x509.DNSName(name), *(x509.IPAddress(ip_address(each)) for each in ("127.0.0.1", "::1"))]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = _builder(_name(name), self._name, key, days).add_extension(x509.ExtendedKeyUsage([usage]), False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False).add_extension(issuer, False)
        made = builder.sign(self._key, hashes.SHA256())
        pair = Pair(self._directory / f"{file or name}.pem", self._directory / f"{file or name}.key")
        pair.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(_pem(key))
        return pair


def locked_key(file: Path, passphrase: bytes) -> Path:
    """Write a private key that is locked with a passphrase."""
    file.write_bytes(_pem(ec.generate_private_key(ec.SECP256R1()), passphrase))
    return file


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int = 30
) -> x509.CertificateBuilder:
    public = key.public_key()
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(_NOW - 2 * _DAY)
    builder = builder.not_valid_after(_NOW + days * _DAY)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)


def _pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        lock = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
