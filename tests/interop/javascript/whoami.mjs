// One client with the default credentials chain; a line on stdin asks STS who it is.
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { fromNodeProviderChain } from "@aws-sdk/credential-providers";
import { createInterface } from "node:readline";

const sts = new STSClient({ maxAttempts: 1, endpoint: process.env.AWS_ENDPOINT_URL_STS, credentials: fromNodeProviderChain() });
for await (const _ of createInterface({ input: process.stdin })) {
  try {
    const { Arn } = await sts.send(new GetCallerIdentityCommand({}));
    console.log(JSON.stringify({ arn: Arn }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
