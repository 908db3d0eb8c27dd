// Package encryptionsdk tests package envelope with the AWS Encryption SDK for Go. That takes long to
// compile, so its test has a package of its own, and is not compiled a second time for the race
// detector: nothing in it is concurrent.
package encryptionsdk
