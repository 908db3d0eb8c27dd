//go:build race

package awsapi

const slowConnections = 1_000 // the race detector has room for some 8,000 goroutines
