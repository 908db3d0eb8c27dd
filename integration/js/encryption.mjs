// Encrypts and decrypts messages with the AWS Encryption SDK for JavaScript. Standard input has one call a line,
// {"operation": "encrypt" or "decrypt", "input"}; standard output has one answer a line: {"output"} or {"error"}. Bytes are
// in base64. The endpoint of KMS is the argument; all else is as the AWS SDK finds it in the environment.
import { constants } from "node:crypto";
import { createInterface } from "node:readline";
import * as esdk from "@aws-crypto/client-node";
import { KMS } from "@aws-sdk/client-kms";

const client = new KMS({ endpoint: process.argv[2] });
const clientProvider = () => client;
const keyNamespace = "test";

const bytes = (text) => Uint8Array.from(Buffer.from(text, "base64"));
const base64 = (buffer) => buffer.toString("base64");

const keyrings = {
  KMS: ({ name }) => new esdk.KmsKeyringNode({ clientProvider, generatorKeyId: name }),
  discovery: () => new esdk.KmsKeyringNode({ clientProvider, discovery: true }),
  AES: ({ name, secret }) => {
    const unencryptedMasterKey = bytes(secret);
    const wrappingSuite = esdk.RawAesWrappingSuiteIdentifier[`AES${8 * unencryptedMasterKey.length}_GCM_IV12_TAG16_NO_PADDING`];
    return new esdk.RawAesKeyringNode({ keyNamespace, keyName: name, unencryptedMasterKey, wrappingSuite, utf8Sorting: true });
  },
  RSA: ({ name, public: publicKey, private: privateKey, hash }) => {
    const padding = constants.RSA_PKCS1_OAEP_PADDING;
    return new esdk.RawRsaKeyringNode({ keyNamespace, keyName: name, rsaKey: { publicKey, privateKey }, padding, oaepHash: hash });
  },
};

function keyringOf(keys) {
  const [generator, ...children] = keys.map((key) => keyrings[key.kind](key));
  return children.length ? new esdk.MultiKeyringNode({ generator, children }) : generator;
}

const { REQUIRE_ENCRYPT_REQUIRE_DECRYPT, FORBID_ENCRYPT_ALLOW_DECRYPT } = esdk.CommitmentPolicy;
const committing = esdk.buildClient(REQUIRE_ENCRYPT_REQUIRE_DECRYPT);
const others = esdk.buildClient(FORBID_ENCRYPT_ALLOW_DECRYPT);

const operations = {
  async encrypt({ suite, commits, keys, frameLength, context, plaintext }) {
    const { encrypt } = commits ? committing : others;
    const options = { suiteId: suite, frameLength, encryptionContext: context ?? {} };
    const { result } = await encrypt(keyringOf(keys), bytes(plaintext), options);
    return { message: base64(result) };
  },
  async decrypt({ keys, message }) {
    const { plaintext, messageHeader } = await committing.decrypt(keyringOf(keys), bytes(message));
    return { plaintext: base64(plaintext), suite: messageHeader.suiteId, context: messageHeader.encryptionContext };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { operation, input } = JSON.parse(line);
  try {
    console.log(JSON.stringify({ output: await operations[operation](input) }));
  } catch (error) {
    console.log(JSON.stringify({ error: { type: error.name, message: error.message } }));
  }
}
