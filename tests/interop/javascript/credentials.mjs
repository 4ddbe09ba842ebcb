// node credentials.mjs SITUATIONS.json: every client gets credentials in every situation that it knows, and asks STS who
// it is with its own SDK's STS client. A line of JSON each.

import { readFileSync } from "node:fs";
import { Amplify, fetchAuthSession } from "@aws-amplify/core";
import { CognitoAWSCredentialsAndIdentityIdProvider, DefaultIdentityIdStore } from "@aws-amplify/auth/cognito";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { fromCognitoIdentity, fromCognitoIdentityPool } from "@aws-sdk/credential-providers";
import AWS from "aws-sdk";
import { memoryStorage } from "./storage.mjs";

const { place, situations } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { region, endpoint } = place;

async function say(client, situation, get) {
  try {
    console.log(JSON.stringify({ client, situation, ...(await get()) }));
  } catch (error) {
    console.log(JSON.stringify({ client, situation, error: `${error.name}: ${error.message}` }));
  }
}

const logins = (map) => Object.fromEntries(Object.entries(map ?? {}).map(([key, token]) => [key, async () => token]));

async function version3(provider) {
  const credentials = await provider();
  const sts = new STSClient({ region, endpoint, credentials: provider });
  const { Arn } = await sts.send(new GetCallerIdentityCommand({}));
  return { key: credentials.accessKeyId, identity: credentials.identityId, arn: Arn };
}

async function version2(parameters) {
  const credentials = new AWS.CognitoIdentityCredentials(parameters, { region, endpoint });
  await credentials.getPromise();
  const { Arn } = await new AWS.STS({ region, endpoint, credentials }).getCallerIdentity().promise();
  return { key: credentials.accessKeyId, identity: credentials.identityId, arn: Arn };
}

/** The whole of Amplify: what an app's fetchAuthSession gives. */
async function amplify(token) {
  const idToken = token && { toString: () => token, payload: JSON.parse(Buffer.from(token.split(".")[1], "base64url")) };
  Amplify.configure(
    { Auth: { Cognito: { identityPoolId: place.pool_id, identityPoolEndpoint: endpoint, allowGuestAccess: true } } },
    {
      Auth: {
        credentialsProvider: new CognitoAWSCredentialsAndIdentityIdProvider(new DefaultIdentityIdStore(memoryStorage())),
        tokenProvider: { getTokens: async () => (token ? { idToken, accessToken: idToken } : null) },
      },
    },
  );
  const { credentials, identityId } = await fetchAuthSession();
  const sts = new STSClient({ region, endpoint, credentials });
  const { Arn } = await sts.send(new GetCallerIdentityCommand({}));
  return { key: credentials.accessKeyId, identity: identityId, arn: Arn };
}

for (const { name, identity, map, role } of situations) {
  if (identity) {
    await say("JS v3 fromCognitoIdentity", name, () =>
      version3(fromCognitoIdentity({ identityId: identity, logins: logins(map), clientConfig: { region, endpoint } })),
    );
  } else {
    await say("JS v3 fromCognitoIdentityPool", name, () =>
      version3(
        fromCognitoIdentityPool({ identityPoolId: place.pool_id, logins: map && logins(map), clientConfig: { region, endpoint } }),
      ),
    );
    await say("Amplify JS", name, () => amplify(Object.values(map ?? {})[0]));
  }
  const who = identity ? { IdentityId: identity } : { IdentityPoolId: place.pool_id };
  await say("JS v2 CognitoIdentityCredentials, enhanced", name, () => version2({ ...who, Logins: map }));
  // A developer token is no login of GetOpenIdToken.
  if (!identity) {
    await say("JS v2 CognitoIdentityCredentials, basic", name, () =>
      version2({ ...who, Logins: map, RoleArn: role, RoleSessionName: "CognitoIdentityCredentials" }),
    );
  }
}
