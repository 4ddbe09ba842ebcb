// The program, from JavaScript alone: no line of Rust. `program.mjs` starts it by the helper of examples/javascript, which
// HELPER names; a line of JSON for each check.
import {
  GetIdCommand,
  SetIdentityPoolRolesCommand,
  SetPrincipalTagAttributeMapCommand,
  UnlinkIdentityCommand,
} from "@aws-sdk/client-cognito-identity";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

const { ISSUER, startPool } = await import(process.env.HELPER);
const STATE = process.env.STATE;

async function check(name, body) {
  try {
    await body();
    console.log(JSON.stringify({ check: name }));
  } catch (error) {
    console.log(JSON.stringify({ check: name, error: String(error.stack ?? error).slice(0, 500) }));
  }
}

function equal(actual, expected) {
  const [one, other] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (one !== other) throw new Error(`${one} is not ${other}`);
}

async function refused(promise, name) {
  const outcome = await promise.then(() => "not refused", (error) => error.name);
  equal(outcome, name);
}

let pool = await startPool(["--guests", "--state", STATE]);
const getId = async (Logins = {}) => (await pool.app.send(new GetIdCommand({ IdentityPoolId: pool.id, Logins }))).IdentityId;
const caller = async (credentials) => {
  const sts = new STSClient({ endpoint: pool.url, region: "us-east-1", maxAttempts: 1, credentials });
  return (await sts.send(new GetCallerIdentityCommand({}))).Arn;
};

const users = await pool.trust({ user_pool: "us-east-1_Example", client_id: "app" });
const google = await pool.trust({ provider: "accounts.google.com" });
await check("social and user-pool logins", async () => {
  for (const provider of [users, google]) {
    const logins = { [provider]: await pool.token(provider, "alice") };
    const identity = await getId(logins);
    const credentials = await pool.exchange(identity, logins);
    equal((await caller(credentials)).includes("assumed-role"), true);
    equal(await getId({ [provider]: await pool.token(provider, "alice") }), identity);
  }
});
await check("guest to social, and unlink", async () => {
  const guest = await getId();
  const token = await pool.token(google, "a guest");
  await pool.exchange(guest, { [google]: token });
  equal(await getId({ [google]: token }), guest);
  await pool.app.send(new UnlinkIdentityCommand({ IdentityId: guest, Logins: { [google]: token }, LoginsToRemove: [google] }));
  await refused(pool.exchange(guest), "NotAuthorizedException");
});
await check("role mapping and tag map", async () => {
  const role = (name) => `arn:aws:iam::123456789012:role/${name}`;
  const rule = { Claim: "department", MatchType: "Equals", Value: "research", RoleARN: role("research") };
  await pool.backend.send(new SetIdentityPoolRolesCommand({
    IdentityPoolId: pool.id,
    Roles: { authenticated: role("everybody"), unauthenticated: role("guest") },
    RoleMappings: { [`${users}:app`]: { Type: "Rules", AmbiguousRoleResolution: "Deny", RulesConfiguration: { Rules: [rule] } } },
  }));
  await pool.backend.send(new SetPrincipalTagAttributeMapCommand({
    IdentityPoolId: pool.id, IdentityProviderName: users, UseDefaults: false, PrincipalTags: { tenant: "custom:tenant" },
  }));
  const token = await pool.token(users, "alice", { claims: { department: "research", "custom:tenant": "t1" } });
  const credentials = await pool.exchange(await getId({ [users]: token }), { [users]: token });
  equal((await caller(credentials)).includes("assumed-role/research/"), true);
  const record = (await pool.requests()).find((request) => request.issued_access_key_id === credentials.accessKeyId);
  equal(record.principal_tags, { tenant: "t1" });
});
await check("time travel, faults, and the request log", async () => {
  const { identityId, token } = await pool.vend("alice");
  await pool.advance(3600);
  await refused(pool.exchange(identityId, { [ISSUER]: token }), "NotAuthorizedException");
  equal((await pool.requests()).at(-1).rule, "TokenExpired");
  await pool.admin("DELETE", "/clock");
  await pool.exchange(identityId, { [ISSUER]: token });
  await pool.fault("GetId", "Refuse", { error: "TooManyRequestsException" });
  await refused(getId(), "TooManyRequestsException");
  await getId();
});
const { identityId: alice } = await pool.vend("alice");
const id = pool.id;
await pool.stop();
pool = await startPool(["--guests", "--state", STATE]);
await check("two runs with one state file", async () => {
  equal(pool.id, id);
  equal((await pool.vend("alice")).identityId, alice);
  await getId({ [google]: await pool.token(google, "alice") });
});
await check("reset", async () => {
  await pool.reset();
  equal((await pool.admin("GET", "/identities")).total, 0);
  equal(await pool.requests(), []);
});
await pool.stop();
