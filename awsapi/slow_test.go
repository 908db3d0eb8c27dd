//go:build !race

package awsapi

const slowConnections = 10_000
