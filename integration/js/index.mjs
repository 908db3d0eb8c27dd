// Calls KMS through the AWS SDK for JavaScript. Standard input has one call a line, {"operation", "input"}, or
// {"operation", "input", "pageSize"} for all pages of a list; standard output has one answer a line: {"output"},
// {"pages"} or {"error"}. Bytes are {"$blob": base64} in inputs and base64 in outputs; ValidTo, the only time in an input,
// is a text. The endpoint is the argument; all else is as the SDK finds it in the environment.
import { createInterface } from "node:readline";
import * as sdk from "@aws-sdk/client-kms";

const client = new sdk.KMSClient({ endpoint: process.argv[2] });

async function answer({ operation, input, pageSize }) {
  try {
    if (!pageSize) {
      const { $metadata, ...output } = await client.send(new sdk[`${operation}Command`](input));
      return { output };
    }
    const pages = [];
    for await (const { $metadata, ...page } of sdk[`paginate${operation}`]({ client, pageSize }, input)) {
      pages.push(page);
    }
    return { pages };
  } catch (error) {
    if (!(error instanceof sdk.KMSServiceException)) {
      throw error;
    }
    const own = sdk[error.name];
    return {
      error: {
        type: own && error instanceof own ? error.name : "KMSServiceException",
        code: error.name,
        message: error.message,
        status: error.$metadata.httpStatusCode,
      },
    };
  }
}

function revive(name, value) {
  if (value?.$blob !== undefined) {
    return Buffer.from(value.$blob, "base64");
  }
  return name === "ValidTo" ? new Date(value) : value;
}
const base64 = (_, value) => (value instanceof Uint8Array ? Buffer.from(value).toString("base64") : value);

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line, revive)), base64));
}
