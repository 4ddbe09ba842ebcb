// What the helper is good for. `node --test`, and the same with Vitest or Jest: `beforeAll` is called `before` here.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { GetIdCommand } from "@aws-sdk/client-cognito-identity";
import { ISSUER, startPool } from "./pool.mjs";

let pool;
before(async () => { pool = await startPool(); });
after(() => pool.stop());
beforeEach(() => pool.reset());

test("each user has an identity of their own", async () => {
  const [alice, bob, again] = [await pool.signIn("alice"), await pool.signIn("bob"), await pool.signIn("alice")];
  assert.notEqual(alice.identityId, bob.identityId);
  assert.equal(alice.identityId, again.identityId);
  const record = (await pool.requests()).find((request) => request.issued_access_key_id === bob.credentials.accessKeyId);
  assert.equal(record.identity_id, bob.identityId);
});

test("a guest who signs in with a user pool keeps their identity", async () => {
  const users = await pool.trust({ user_pool: "us-east-1_Example", client_id: "app" });
  const { IdentityId: guest } = await pool.app.send(new GetIdCommand({ IdentityPoolId: pool.id }));
  const token = await pool.token(users, "alice", { claims: { email: "alice@example.com" } });
  await pool.exchange(guest, { [users]: token });
  const { IdentityId: user } = await pool.app.send(new GetIdCommand({ IdentityPoolId: pool.id, Logins: { [users]: token } }));
  assert.equal(user, guest);
});

test("an hour later the token has expired, and the pool says why", async () => {
  const { identityId, token } = await pool.vend("alice");
  await pool.advance(3600);
  await assert.rejects(pool.exchange(identityId, { [ISSUER]: token }), /Token expired/);
  assert.equal((await pool.requests()).at(-1).rule, "TokenExpired");
});

test("the app copes with an outage", async () => {
  await pool.fault("GetId", "Status", { status: 503 });
  await assert.rejects(pool.app.send(new GetIdCommand({ IdentityPoolId: pool.id })));
  await pool.app.send(new GetIdCommand({ IdentityPoolId: pool.id }));
});
