// Package encryptionsdk tests package envelope with the AWS Encryption SDK for Go. The SDK takes
// longer to compile than everything else together, so this is a module that go.work does not list:
// CI tests it by itself.
package encryptionsdk
