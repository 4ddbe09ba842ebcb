// A helper for Vitest, Jest and node:test: an identity pool of its own for a test file.
//
// Copy this file. It needs the program (`cargo install cognito-identity-pool --features cli`) and
// @aws-sdk/client-cognito-identity:
//
//     let pool;
//     beforeAll(async () => { pool = await startPool(); });
//     afterAll(() => pool.stop());
//     beforeEach(() => pool.reset());
//
//     test("alice", async () => { const { identityId, credentials } = await pool.signIn("alice"); … });
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import {
  CognitoIdentityClient,
  GetCredentialsForIdentityCommand,
  GetOpenIdTokenForDeveloperIdentityCommand,
} from "@aws-sdk/client-cognito-identity";

const PROGRAM = process.env.COGNITO_IDENTITY_POOL_PROGRAM ?? "cognito-identity-pool";
export const ISSUER = "cognito-identity.amazonaws.com";

/** Starts a pool; `settings` are further arguments of `cognito-identity-pool local`. */
export async function startPool(settings = ["--guests"]) {
  const server = spawn(PROGRAM, ["local", "--json", "--quiet", ...settings], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(server, "exit");
  const lines = createInterface({ input: server.stdout });
  const [line] = await Promise.race([
    once(lines, "line"),
    ended.then(([code]) => Promise.reject(new Error(`${PROGRAM} ended with ${code}`))),
  ]);
  const { ready: url, environment } = JSON.parse(line);
  const region = environment.AWS_REGION;

  const pool = {
    url,
    environment,
    id: environment.COGNITO_IDENTITY_POOL_ID,
    provider: environment.COGNITO_DEVELOPER_PROVIDER,

    /** A client of an app's: it has no credentials. */
    app: new CognitoIdentityClient({ endpoint: url, region, maxAttempts: 1 }),

    /** A client of your backend's. */
    backend: new CognitoIdentityClient({
      endpoint: url,
      region,
      maxAttempts: 1,
      credentials: { accessKeyId: environment.AWS_ACCESS_KEY_ID, secretAccessKey: environment.AWS_SECRET_ACCESS_KEY },
    }),

    /** What your backend does for a user whom it has authenticated. */
    async vend(user) {
      const Logins = { [pool.provider]: user };
      const vended = await pool.backend.send(
        new GetOpenIdTokenForDeveloperIdentityCommand({ IdentityPoolId: pool.id, Logins }),
      );
      return { identityId: vended.IdentityId, token: vended.Token };
    },

    /** The whole way to a user's credentials. */
    async signIn(user) {
      const { identityId, token } = await pool.vend(user);
      return { identityId, credentials: await pool.exchange(identityId, { [ISSUER]: token }) };
    },

    /** What an app does; without logins it is a guest. */
    async exchange(IdentityId, Logins = {}) {
      const { Credentials } = await pool.app.send(new GetCredentialsForIdentityCommand({ IdentityId, Logins }));
      return { accessKeyId: Credentials.AccessKeyId, secretAccessKey: Credentials.SecretKey, sessionToken: Credentials.SessionToken };
    },

    /** Trusts a simulated provider: { provider } or { user_pool, client_id }. Returns the key of the logins map. */
    trust: async (provider) => (await pool.admin("POST", "/providers", provider)).provider,

    /** A token of a simulated provider; `more` may have claims, lifetime_seconds, audience, forged. */
    token: async (provider, sub, more = {}) => (await pool.admin("POST", "/tokens", { provider, sub, ...more })).token,

    advance: (seconds) => pool.admin("POST", "/clock", { advance_seconds: seconds }),
    fault: (operation, fault, more = {}) => pool.admin("POST", "/faults", { operation, fault, ...more }),
    requests: async () => (await pool.admin("GET", "/requests")).requests,
    reset: () => pool.admin("POST", "/reset", {}),

    async admin(method, path, body) {
      const answer = await fetch(`${url}/_local${path}`, {
        method,
        headers: { "x-local-admin": environment.COGNITO_LOCAL_ADMIN_TOKEN },
        body: body && JSON.stringify(body),
      });
      const value = await answer.json();
      if (!answer.ok) throw new Error(value.error);
      return value;
    },

    async stop() {
      pool.app.destroy();
      pool.backend.destroy();
      server.kill("SIGTERM");
      await ended;
    },
  };
  return pool;
}
