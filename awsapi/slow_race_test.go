//go:build race

package awsapi

const slowConnections = 1_000 // the race detector is limited to about 8,000 goroutines
