"""Calls KMS through boto3, in the manner of ../js/index.mjs: one call a line in, one answer a line out.

What this version of boto3 does not know is answered with {"unknown"}.
"""

import base64
import json
import sys

import boto3
from botocore.exceptions import ClientError, ParamValidationError

client = boto3.client("kms", endpoint_url=sys.argv[1])
methods = {operation: method for method, operation in client.meta.method_to_api_mapping.items()}


def blob(members):
    return base64.b64decode(members["$blob"]) if "$blob" in members else members


def plain(value):
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value.isoformat()


def body(response):
    del response["ResponseMetadata"]
    return response


def answer(operation, input, pageSize=0):
    method = methods.get(operation)
    if not method or pageSize and not client.can_paginate(method):
        return {"unknown": operation}
    try:
        if not pageSize:
            return {"output": body(getattr(client, method)(**input))}
        pages = client.get_paginator(method).paginate(**input, PaginationConfig={"PageSize": pageSize})
        return {"pages": [body(page) for page in pages]}
    except ParamValidationError as error:
        return {"unknown": str(error)}
    except ClientError as error:
        return {
            "error": {
                "type": type(error).__name__,
                "code": error.response["Error"]["Code"],
                "message": error.response["Error"]["Message"],
                "status": error.response["ResponseMetadata"]["HTTPStatusCode"],
            }
        }


for line in sys.stdin:
    print(json.dumps(answer(**json.loads(line, object_hook=blob)), default=plain), flush=True)
