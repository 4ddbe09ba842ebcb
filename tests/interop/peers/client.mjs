// node client.mjs SETTINGS: one of the JavaScript clients. Every line on stdin is an order, answered by a line on stdout; they
// are those of benches/peers/src/main.rs.

import { createInterface } from "node:readline";
import { CognitoAWSCredentialsAndIdentityIdProvider, DefaultIdentityIdStore } from "@aws-amplify/auth/cognito";
import { STSClient } from "@aws-sdk/client-sts";
import { fromCognitoIdentity, fromCognitoIdentityPool } from "@aws-sdk/credential-providers";
import AWS from "aws-sdk";
import { memoryStorage } from "../javascript/storage.mjs";

const settings = JSON.parse(process.argv[2]);
const { region, endpoint, pool_id: pool, backend } = settings;
const vended = async (user) => (await fetch(`${backend}/${user}`)).json();

/** Version 3: a provider, and a client that keeps what it gives. */
function version3(who) {
  const clientConfig = { region, endpoint };
  // A cache of its own for each, or the guest's id would be kept from one to the next.
  const kept = new Map();
  const cache = {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  };
  const provider = {
    developer: () =>
      fromCognitoIdentity({
        identityId: who.identity,
        logins: { [who.login]: async () => (await vended(who.user)).Token },
        clientConfig,
      }),
    social: () => fromCognitoIdentityPool({ identityPoolId: pool, cache, logins: { [who.login]: async () => who.token }, clientConfig }),
    guest: () => fromCognitoIdentityPool({ identityPoolId: pool, cache, clientConfig }),
  }[who.state]();
  const client = new STSClient({ region, endpoint, credentials: provider });
  return {
    ask: async () => (await client.config.credentials()).accessKeyId,
    again: async () => (await client.config.credentials({ forceRefresh: true })).accessKeyId,
    switch: () => "a client keeps its provider: another user is a new provider and new clients",
  };
}

/** Version 2: one object. */
function version2(who) {
  const logins = (who) => (who.state === "guest" ? undefined : { [who.login]: who.token });
  const identity = who.state === "developer" ? { IdentityId: who.identity } : { IdentityPoolId: pool };
  const credentials = new AWS.CognitoIdentityCredentials({ ...identity, Logins: logins(who) }, { region, endpoint });
  return {
    ask: async () => (await credentials.getPromise(), credentials.accessKeyId),
    again: async () => (await credentials.refreshPromise(), credentials.accessKeyId),
    // By hand: nothing but the app knows that both belong together, and that what is cached is another user's.
    switch: (who) => {
      credentials.params.IdentityId = who.identity;
      credentials.params.Logins = logins(who);
      credentials.expired = true;
    },
  };
}

/** Amplify: it is told the tokens at each call. */
function amplify(who) {
  const authConfig = { Cognito: { identityPoolId: pool, identityPoolEndpoint: endpoint, allowGuestAccess: true } };
  const store = new DefaultIdentityIdStore(memoryStorage());
  store.setAuthConfig(authConfig);
  const provider = new CognitoAWSCredentialsAndIdentityIdProvider(store);
  let current = who;
  const call = async (forceRefresh) => {
    const token = current.state === "guest" ? undefined : current.token;
    const idToken = token && { toString: () => token, payload: JSON.parse(Buffer.from(token.split(".")[1], "base64url")) };
    const tokens = token && { idToken, accessToken: idToken };
    const answer = await provider.getCredentialsAndIdentityId({ authConfig, authenticated: Boolean(token), tokens, forceRefresh });
    return answer.credentials.accessKeyId;
  };
  return { ask: () => call(false), again: () => call(true), switch: (who) => void (current = who) };
}

const make = { "JavaScript v3": version3, "JavaScript v2": version2, Amplify: amplify }[settings.client];
let client;

async function said(calls) {
  const answers = await Promise.allSettled(calls);
  return {
    keys: answers.filter((answer) => answer.status === "fulfilled").map((answer) => answer.value),
    errors: answers.filter((answer) => answer.status === "rejected").map(({ reason }) => `${reason.name}: ${reason.message}`),
  };
}

const orders = {
  make: (who) => ((client = make(who)), {}),
  ask: ({ callers }) => said(Array.from({ length: callers }, () => client.ask())),
  again: () => said([client.again()]),
  switch: (who) => {
    const no = client.switch(who);
    return no ? { no } : {};
  },
  cancel: () => ({ no: "a promise cannot be cancelled" }),
  hit: async ({ calls }) => {
    await client.ask();
    const start = process.hrtime.bigint();
    for (let index = 0; index < calls; index++) await client.ask();
    return { ns: Math.round(Number(process.hrtime.bigint() - start) / calls) };
  },
  cold: async ({ times }) => {
    const taken = [];
    for (let index = 0; index < times; index++) {
      const fresh = make({ state: "guest" });
      const start = process.hrtime.bigint();
      await fresh.ask();
      taken.push(Number(process.hrtime.bigint() - start));
    }
    return { ns: taken.sort((a, b) => a - b)[taken.length >> 1] };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  console.log(JSON.stringify(await orders[order.do](order)));
}
