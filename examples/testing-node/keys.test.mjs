// A month, and a year, in the life of a key. Run it with `npm install && KMS=/path/to/kms npm test`.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import * as sdk from "@aws-sdk/client-kms";
import { start } from "./kmstest.mjs";

const seeded = "1234abcd-12ab-34cd-56ef-1234567890ab";
let prepared, kms, client;

before(async () => {
  prepared = await start();
  await prepared.seed([{ id: seeded, aliases: ["alias/app"] }]);
});
after(() => prepared.stop());

// Every test has a fork of its own, with what was prepared.
beforeEach(async () => {
  kms = await prepared.fork();
  client = new sdk.KMSClient({ endpoint: kms.url, region: "us-east-1", credentials: { accessKeyId: "any", secretAccessKey: "any" } });
});
afterEach(() => kms.delete());

test("a key is gone a month after its deletion was scheduled", async () => {
  const { KeyMetadata } = await client.send(new sdk.CreateKeyCommand({}));
  await client.send(new sdk.ScheduleKeyDeletionCommand({ KeyId: KeyMetadata.KeyId, PendingWindowInDays: 30 }));
  await kms.advance({ days: 29 });
  const pending = await client.send(new sdk.DescribeKeyCommand({ KeyId: KeyMetadata.KeyId }));
  assert.equal(pending.KeyMetadata.KeyState, "PendingDeletion");
  await kms.advance({ days: 1 });
  await assert.rejects(client.send(new sdk.DescribeKeyCommand({ KeyId: KeyMetadata.KeyId })), sdk.NotFoundException);
});

test("a key rotates after a year, and decrypts what is older", async () => {
  await client.send(new sdk.EnableKeyRotationCommand({ KeyId: seeded }));
  const { CiphertextBlob } = await client.send(new sdk.EncryptCommand({ KeyId: "alias/app", Plaintext: Buffer.from("hello") }));
  await kms.advance({ days: 365 });
  const { Rotations } = await client.send(new sdk.ListKeyRotationsCommand({ KeyId: seeded }));
  assert.equal(Rotations.length, 1);
  const { Plaintext } = await client.send(new sdk.DecryptCommand({ CiphertextBlob }));
  assert.equal(Buffer.from(Plaintext).toString(), "hello");
});

test("the SDK retries a call that is throttled", async () => {
  await kms.inject({ operations: ["Encrypt"], error: "ThrottlingException", count: 1 });
  await client.send(new sdk.EncryptCommand({ KeyId: "alias/app", Plaintext: Buffer.from("hello") }));
  const calls = await kms.calls("Encrypt");
  assert.deepEqual(calls.map((call) => call.error?.code), ["ThrottlingException", undefined]);
  assert.equal(calls[1].input.KeyId, "alias/app");
});
