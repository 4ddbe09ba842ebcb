// The JavaScript clients, each as one function: it gets credentials, or whatever else the case asks for, or throws.

import { CognitoAWSCredentialsAndIdentityIdProvider, DefaultIdentityIdStore } from "@aws-amplify/auth/cognito";
import * as sdk from "@aws-sdk/client-cognito-identity";
import { fromCognitoIdentity, fromCognitoIdentityPool } from "@aws-sdk/credential-providers";
import AWS from "aws-sdk";
import { memoryStorage } from "./storage.mjs";

// Version 2 says on import that it is out of support; these checks know.
AWS.util.isBrowser = () => false;

const GET_ID = "GetId";
const CREDENTIALS = "GetCredentialsForIdentity";
const TOKEN = "GetOpenIdToken";

const once = (place, path = "") => ({ region: place.region, endpoint: place.endpoint + path, maxAttempts: 1 });

/** Every operation, as the service has it. */
async function client({ operation, input, place, path, signer, unsigned }) {
  const keys = {
    accessKeyId: signer.key ?? place.access_key_id,
    secretAccessKey: signer.secret ?? place.secret_access_key,
    sessionToken: signer.token,
  };
  const aws = new sdk.CognitoIdentityClient({ ...once(place, path), credentials: unsigned ? undefined : keys });
  return aws.send(new sdk[`${operation}Command`](input));
}

async function fromIdentityPool({ input, place, path }) {
  return fromCognitoIdentityPool({
    identityPoolId: input.IdentityPoolId,
    logins: input.Logins,
    clientConfig: once(place, path),
  })();
}

async function fromIdentity({ input, place, path }) {
  return fromCognitoIdentity({
    identityId: input.IdentityId,
    logins: input.Logins,
    customRoleArn: input.CustomRoleArn,
    clientConfig: once(place, path),
  })();
}

async function version2({ operation, input, place, path, role }) {
  const options = { endpoint: place.endpoint + path, region: place.region, maxRetries: 0, paramValidation: false };
  const classic = operation === TOKEN || role ? { RoleArn: role ?? "arn:aws:iam::123456789012:role/any" } : {};
  const credentials = new AWS.CognitoIdentityCredentials({ ...input, ...classic }, options);
  await credentials.getPromise();
  return { ...credentials, sessionToken: credentials.sessionToken, identityId: credentials.identityId };
}

/** Amplify makes the logins map of the ID token: its key is the token's issuer. */
async function amplify({ input, place }) {
  const config = {
    identityPoolId: input.IdentityPoolId ?? place.pool_id,
    identityPoolEndpoint: place.endpoint,
    allowGuestAccess: true,
  };
  const store = new DefaultIdentityIdStore(memoryStorage());
  store.setAuthConfig({ Cognito: config });
  if (input.IdentityId) await store.storeIdentityId({ id: input.IdentityId, type: "guest" });
  const [token] = Object.values(input.Logins ?? {});
  const idToken = token && { toString: () => token, payload: payload(token) };
  const answer = await new CognitoAWSCredentialsAndIdentityIdProvider(store).getCredentialsAndIdentityId({
    authConfig: { Cognito: config },
    authenticated: Boolean(token),
    tokens: token && { idToken, accessToken: idToken },
  });
  return { ...answer.credentials, identityId: answer.identityId };
}

function payload(token) {
  try {
    return JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
  } catch {
    return {};
  }
}

function amplifyCanAsk({ operation, input, path }) {
  if (path || (operation !== GET_ID && operation !== CREDENTIALS)) return false;
  const logins = Object.entries(input.Logins ?? {});
  // It takes the region from the pool's id, and checks that there is one.
  const id = input.IdentityPoolId ?? "us-east-1:";
  return id.includes(":") && logins.every(([key, token]) => logins.length === 1 && payload(token).iss === `https://${key}`);
}

/** What can be asked of each client, and how. An empty id is refused by the providers themselves. */
export const clients = {
  "JS v3 client": { can: ({ unsigned, signer }) => unsigned || signer.key !== null, call: client },
  "JS v3 fromCognitoIdentityPool": { can: ({ operation }) => operation === GET_ID, call: fromIdentityPool },
  "JS v3 fromCognitoIdentity": { can: ({ operation }) => operation === CREDENTIALS, call: fromIdentity },
  "JS v2 CognitoIdentityCredentials": {
    can: ({ operation, input }) => [GET_ID, CREDENTIALS, TOKEN].includes(operation) && input.IdentityId !== "",
    call: version2,
  },
  "Amplify JS": { can: (asked) => amplifyCanAsk(asked) && asked.input.IdentityId !== "", call: amplify },
};
