"""Every refusal by every client that can provoke it: the right type, and the words where the service's are known."""

import io
import json
import os
import re
import subprocess
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from awscli.clidriver import create_clidriver
from botocore import xform_name
from botocore.exceptions import ClientError

import cases
from cases import Case
from harness import HERE, SCRATCH, Stage, check, environment, equal, matches, report, suite


class Refused(Exception):
    def __init__(self, code: str, message: str, status: int | None):
        super().__init__(f"{code} ({status}): {message}")
        self.code, self.message, self.status = code, message, status


def keys_of(case: Case) -> dict[str, str]:
    signer = case.signer
    return {
        "aws_access_key_id": signer.get("key") or case.place.access_key_id,
        "aws_secret_access_key": signer.get("secret", case.place.secret_access_key),
        "aws_session_token": signer.get("token", ""),
    }


def boto3(case: Case) -> None:
    unsigned = {"signature_version": cases.UNSIGNED} if case.signer.get("key", "") is None else {}
    client = cases.boto3.client(
        "cognito-identity",
        endpoint_url=case.place.endpoint + case.path,
        region_name=case.place.region,
        config=cases.Config(retries={"total_max_attempts": 1}, parameter_validation=False, **unsigned),
        **{name: value or None for name, value in keys_of(case).items()},
    )
    try:
        getattr(client, xform_name(case.operation))(**case.input)
    except ClientError as error:
        said = error.response
        raise Refused(said["Error"]["Code"], said["Error"]["Message"], said["ResponseMetadata"]["HTTPStatusCode"])


def aws_cli_answer(case: Case, service: str = "cognito-identity") -> dict:
    """The CLI itself, called in this process: a process a case would take a second each."""
    config = SCRATCH / "cli-config"
    config.write_text("[default]\nparameter_validation = false\nmax_attempts = 1\n")
    keys = {name.upper(): value for name, value in keys_of(case).items() if value}
    arguments = [service, xform_name(case.operation, "-")]
    arguments += ["--cli-input-json", json.dumps(case.input), "--endpoint-url", case.place.endpoint + case.path]
    arguments += ["--output", "json", "--no-paginate"]
    if case.signer.get("key", "") is None:
        arguments.append("--no-sign-request")
    # Where its own data is, awscli has put into the environment.
    env = environment(AWS_DEFAULT_REGION=case.place.region, AWS_DATA_PATH=os.environ["AWS_DATA_PATH"], **keys)
    env["AWS_CONFIG_FILE"] = str(config)
    stdout, stderr = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, env, clear=True), redirect_stdout(stdout), redirect_stderr(stderr):
        status = create_clidriver().main(arguments)
    if status:
        said = re.search(r"\((\w+)\) when calling the \w+ operation(?: \(.*?\))?: (.*)", stderr.getvalue(), re.DOTALL)
        assert said, stderr.getvalue()
        raise Refused(said[1], said[2].rstrip("\n"), None)
    return json.loads(stdout.getvalue()) if stdout.getvalue().strip() else {}


def judge(case: Case, code: str, message: str, status: int | None) -> None:
    # What is no JSON has no type; each client says so in its own way.
    if case.status == 404:
        assert status == 404 or code == "404", f"{code}: {message}"
        return
    equal(code, case.code)
    matches(message, case.message)
    if status is not None:
        equal(status, case.status)


def run(stage: Stage) -> None:
    with suite("refusals: what the clients ask"):
        asked = cases.all_cases(stage)
        with check("every row of E.2 that can be provoked is asked for"):
            rows = {case.row for case in asked}
            equal({f"E.2 {number}" for number in range(1, 29)} - rows, set())
        with check("every case has a name of its own"):
            equal([name for name, count in Counter(case.name for case in asked).items() if count > 1], [])
    for name, client in (("boto3", boto3), ("AWS CLI", aws_cli_answer)):
        with suite(f"refusals, {name}"):
            for case in asked:
                with check(f"{name}: {case.name}"):
                    try:
                        client(case)
                    except Refused as refused:
                        judge(case, refused.code, refused.message, refused.status)
                    else:
                        raise AssertionError("not refused")
    with suite("refusals, JavaScript"):
        javascript(asked)


# How many cases each client asks at least: one that asks nothing has not passed.
JAVASCRIPT = {
    "JS v3 client": 60,
    "JS v3 fromCognitoIdentityPool": 18,
    "JS v3 fromCognitoIdentity": 18,
    "JS v2 CognitoIdentityCredentials": 45,
    "Amplify JS": 20,
}


def javascript(asked: list[Case]) -> None:
    by_name = {case.name: case for case in asked}
    file = SCRATCH / "cases.json"
    file.write_text(json.dumps([case.plain() for case in asked]))
    done = subprocess.run(
        ["node", HERE / "javascript" / "refusals.mjs", file],
        env=environment(AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE="1"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    asked_by = Counter()
    for line in done.stdout.splitlines():
        said = json.loads(line)
        asked_by[said["client"]] += 1
        case = by_name[said["case"]]
        with check(f"{said['client']}: {case.name}"):
            judge(case, said["code"], said.get("message", ""), said.get("status"))
    for client, least in JAVASCRIPT.items():
        with check(f"{client}: at least {least} refusals were asked for"):
            assert asked_by[client] >= least, asked_by[client]
    if done.returncode:
        report("JavaScript: every case was asked", done.stderr[-500:])
