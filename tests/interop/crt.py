"""awscrt's `new_cognito`, which wants TLS at port 443. `crt.py --target DIR` is run in a network namespace of its own."""

import argparse
import asyncio
import datetime
import ipaddress
import ssl
import subprocess
import sys
import threading
from urllib.parse import urlsplit

from awscrt import auth, exceptions, io
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import cases
import harness
from cases import CREDENTIALS, GOOGLE, ISSUER, operator
from harness import SCRATCH, Stage, check, equal, matches, report, suite
from operations import caller


def throw_away_ca() -> tuple[str, str]:
    """A CA's certificate, and a certificate with its key for localhost: the names of the two files."""

    def make(name: str, issuer: str, key, signer, ca: bool):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_file, key_file = SCRATCH / "ca.pem", SCRATCH / "front.pem"
    ca_file.write_bytes(make("interop CA", "interop CA", ca_key, ca_key, True))
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(*pem) + make("localhost", "interop CA", key, ca_key, False))
    return str(ca_file), str(key_file)


class Front:
    """TLS at 127.0.0.1:443, before whichever pool is the target."""

    def __init__(self, certificate: str):
        self.target = 0
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        self.loop = asyncio.new_event_loop()
        listening = asyncio.start_server(self.connected, "127.0.0.1", 443, ssl=context)
        self.loop.run_until_complete(listening)
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    async def connected(self, reader, writer) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target)

        async def copy(source, sink) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except OSError:
                pass
            finally:
                sink.close()

        await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer), return_exceptions=True)


def main(target: str) -> int:
    ca, certificate = throw_away_ca()
    stage = Stage(target)
    place = stage.pools["open"]
    front = Front(certificate)
    options = io.TlsContextOptions()
    options.override_default_trust_store_from_path(None, ca)
    tls = io.ClientTlsContext(options)

    def credentials(identity: str, logins: dict[str, str], at=place, role: str | None = None):
        front.target = urlsplit(at.endpoint).port
        provider = auth.AwsCredentialsProvider.new_cognito(
            endpoint="localhost", identity=identity, tls_ctx=tls, logins=list(logins.items()), custom_role_arn=role
        )
        return provider.get_credentials().result(60)

    with suite("awscrt"):
        aws = operator(place)
        asked = [case for case in cases.all_cases(stage) if case.operation == CREDENTIALS and case.input["IdentityId"]]
        vended = aws.get_open_id_token_for_developer_identity(IdentityPoolId=place.pool_id, Logins={place.provider: "crt"})
        google = stage.token(GOOGLE, "crt")
        for situation, identity, logins in (
            ("developer", vended["IdentityId"], {ISSUER: vended["Token"]}),
            ("guest", aws.get_id(IdentityPoolId=place.pool_id)["IdentityId"], {}),
            ("google", aws.get_id(IdentityPoolId=place.pool_id, Logins={GOOGLE: google})["IdentityId"], {GOOGLE: google}),
        ):
            with check(f"awscrt new_cognito: {situation}"):
                given = credentials(identity, logins)
                keys = {
                    "AccessKeyId": given.access_key_id,
                    "SecretKey": given.secret_access_key,
                    "SessionToken": given.session_token,
                }
                matches(caller(place, keys)["Arn"], ".*/CognitoIdentityCredentials")
                equal(stage.identity_of("open", given.access_key_id), identity)
        # It reads no body: one name for every refusal, after one attempt, and another for a service that fails.
        for case in asked:
            with check(f"awscrt new_cognito: {case.name}"):
                before = len(stage.requests(case.place.name))
                try:
                    credentials(case.input["IdentityId"], case.input.get("Logins", {}), case.place)
                except exceptions.AwsCrtError as error:
                    retried = case.status >= 500
                    name = "AWS_IO_MAX_RETRIES_EXCEEDED" if retried else "AWS_AUTH_CREDENTIALS_PROVIDER_HTTP_STATUS_FAILURE"
                    equal(error.name, name)
                    seen = stage.requests(case.place.name)[before:]
                    equal([request["error"] for request in seen], [case.code] * (4 if retried else 1))
                else:
                    raise AssertionError("not refused")
        with check("awscrt new_cognito: at least 15 refusals were asked for"):
            assert len(asked) >= 15, len(asked)
    return harness.total()


def run(target: str) -> None:
    """Runs this file where port 443 is free, and reports its checks."""
    alone = ["unshare", "--net", "--map-root-user", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    allowed = subprocess.run(alone + ["true"], capture_output=True).returncode == 0
    command = [sys.executable, "-B", "-u", str(harness.HERE / "crt.py"), "--target", target]
    done = subprocess.run(
        (alone if allowed else []) + command,
        env=harness.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    reported = 0
    for line in done.stdout.splitlines():
        status, _, rest = line.partition(" ")
        if status in ("PASS", "FAIL"):
            report(rest, None if status == "PASS" else "as said")
            reported += 1
        elif line.startswith("--"):
            print(line)
    if done.returncode not in (0, 1) or not reported:
        report("awscrt runs to its end", done.stderr[-500:])


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--target", required=True)
    sys.exit(main(arguments.parse_args().target))
