// node verify.mjs TOKENS.json: what aws-jwt-verify says of each token, a line of JSON each.

import { readFileSync } from "node:fs";
import { JwtRsaVerifier } from "aws-jwt-verify";

const { issuer, audience, jwks, tokens, provider } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const verifier = JwtRsaVerifier.create({
  issuer,
  audience,
  // Never asked: the library fetches over https only, so the key set is given.
  jwksUri: "https://127.0.0.1:1/jwks",
  customJwtCheck({ payload }) {
    if (!payload.amr?.includes("authenticated") || !payload.amr.includes(provider)) throw new Error("amr");
  },
});
verifier.cacheJwks(jwks);

for (const [name, token] of Object.entries(tokens)) {
  try {
    const payload = await verifier.verify(token);
    console.log(JSON.stringify({ name, sub: payload.sub }));
  } catch (error) {
    console.log(JSON.stringify({ name, error: error.constructor.name }));
  }
}
