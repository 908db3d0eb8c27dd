"""A month, and a year, in the life of a key. Run it with `pip install boto3 && KMS=/path/to/kms python3 -m unittest`."""

import unittest

import boto3

import kmstest

SEEDED = "1234abcd-12ab-34cd-56ef-1234567890ab"


class Keys(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prepared = kmstest.start()
        cls.addClassCleanup(cls.prepared.stop)
        cls.prepared.seed({"id": SEEDED, "aliases": ["alias/app"]})

    def setUp(self):
        """Give every test a fork of its own, with what was prepared."""
        self.kms = self.prepared.fork()
        self.addCleanup(self.kms.delete)
        self.client = boto3.client("kms", endpoint_url=self.kms.url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any")
        self.addCleanup(self.client.close)

    def test_a_key_is_gone_a_month_after_its_deletion_was_scheduled(self):
        key = self.client.create_key()["KeyMetadata"]["KeyId"]
        self.client.schedule_key_deletion(KeyId=key, PendingWindowInDays=30)
        self.kms.advance(days=29)
        self.assertEqual(self.client.describe_key(KeyId=key)["KeyMetadata"]["KeyState"], "PendingDeletion")
        self.kms.advance(days=1)
        with self.assertRaises(self.client.exceptions.NotFoundException):
            self.client.describe_key(KeyId=key)

    def test_a_key_rotates_after_a_year_and_decrypts_what_is_older(self):
        self.client.enable_key_rotation(KeyId=SEEDED)
        sealed = self.client.encrypt(KeyId="alias/app", Plaintext=b"hello")["CiphertextBlob"]
        self.kms.advance(days=365)
        self.assertEqual(self.client.decrypt(CiphertextBlob=sealed)["Plaintext"], b"hello")
        again = self.client.encrypt(KeyId="alias/app", Plaintext=b"hello")["CiphertextBlob"]
        self.assertNotEqual(sealed, again)

    def test_the_sdk_retries_a_call_that_is_throttled(self):
        self.kms.inject(operations=["Encrypt"], error="ThrottlingException", count=1)
        self.client.encrypt(KeyId="alias/app", Plaintext=b"hello")
        calls = self.kms.calls("Encrypt")
        self.assertEqual([call.get("error", {}).get("code") for call in calls], ["ThrottlingException", None])
        self.assertEqual(calls[1]["input"]["KeyId"], "alias/app")


if __name__ == "__main__":
    unittest.main()
