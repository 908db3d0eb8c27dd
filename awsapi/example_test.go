package awsapi_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"

	"github.com/pocketkms/kms"
	"github.com/pocketkms/kms/awsapi"
)

// A request as SDKs send it, without a socket. For an SDK's own client see package awsclient.
func ExampleHTTPClient() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	client := &http.Client{Transport: awsapi.HTTPClient(svc)}

	request, err := http.NewRequest(http.MethodPost, "https://kms.us-east-1.amazonaws.com/", strings.NewReader(`{"KeyId":"alias/none"}`))
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "TrentService.DescribeKey")
	response, err := client.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(response.Status)
	fmt.Println(string(body))
	// Output:
	// 400 Bad Request
	// {"__type":"NotFoundException","message":"Alias arn:aws:kms:us-east-1:111122223333:alias/none is not found."}
}

// A server that accepts requests signed with one access key, of the root of an account.
func ExampleHandler() {
	svc, err := kms.New(kms.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer svc.Close()
	root, err := kms.ParsePrincipal("arn:aws:iam::111122223333:root")
	if err != nil {
		log.Fatal(err)
	}
	credentials, err := awsapi.NewCredentials(root, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
	if err != nil {
		log.Fatal(err)
	}
	keys := map[string]*awsapi.Credentials{"AKIAIOSFODNN7EXAMPLE": credentials}
	handler := awsapi.Handler(svc, awsapi.Options{
		Credentials: func(accessKeyID string) *awsapi.Credentials { return keys[accessKeyID] },
	})
	server := awsapi.Server(handler)
	server.Addr = "127.0.0.1:8080"
	fmt.Println(server.ReadTimeout)
	// Output: 30s
}
