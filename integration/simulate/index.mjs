// Decides requests by @cloud-copilot/iam-simulate. Standard input has one request a line, standard output its result:
// "Allowed", "ImplicitlyDenied" or "ExplicitlyDenied". The package's public functions drop condition keys that AWS's tables
// do not list one by one, such as kms:EncryptionContext:tenant, so the function below them is called.
import { createInterface } from "node:readline";
import { loadPolicy } from "@cloud-copilot/iam-policy";

const load = (path) => import(new URL(`node_modules/@cloud-copilot/iam-simulate/dist/esm/${path}.js`, import.meta.url));
const { authorize } = await load("core_engine/CoreSimulatorEngine");
const { AwsRequestImpl } = await load("request/request");
const { RequestContextImpl } = await load("requestContext");
const { DiscoveryContextKeyConstraints } = await load("context_keys/discoveryContextKeyConstraints");

const policy = (document) => document && loadPolicy(document, { name: "policy" });

function decide({ principal, action, resource, account, context, keyPolicy, identityPolicies, boundary, sessionPolicy }) {
  return authorize({
    request: new AwsRequestImpl(principal, { resource, accountId: account }, action, new RequestContextImpl(context)),
    resourcePolicy: policy(keyPolicy),
    identityPolicies: identityPolicies.map(policy),
    permissionBoundaries: boundary && [policy(boundary)],
    sessionPolicy: policy(sessionPolicy),
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    simulationParameters: { simulationMode: "Strict", discoveryContextKeyConstraints: new DiscoveryContextKeyConstraints() },
  }).result;
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(decide(JSON.parse(line))));
}
