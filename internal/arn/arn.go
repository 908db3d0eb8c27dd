// Package arn has the grammar of the identifiers that KMS uses: ARNs, accounts, Regions, key IDs
// and alias names. Every package reads and writes them here.
package arn

import (
	"slices"
	"strings"
)

// An ARN is the parts of an Amazon Resource Name,
// arn:Partition:Service:Region:Account:Resource.
type ARN struct {
	Partition, Service, Region, Account, Resource string
}

// Parse splits an ARN into its parts. It checks the form that all ARNs have, and does not
// allocate.
func Parse(s string) (a ARN, ok bool) {
	rest, ok := strings.CutPrefix(s, "arn:")
	if !ok {
		return ARN{}, false
	}
	for _, part := range [...]*string{&a.Partition, &a.Service, &a.Region, &a.Account} {
		if *part, rest, ok = strings.Cut(rest, ":"); !ok {
			return ARN{}, false
		}
	}
	a.Resource = rest
	return a, a.Partition != "" && a.Service != "" && a.Resource != ""
}

// Key returns the ARN of a key.
func Key(account, region, id string) string { return kms(account, region, "key/"+id) }

// Alias returns the ARN of an alias; name begins with [AliasPrefix].
func Alias(account, region, name string) string { return kms(account, region, name) }

func kms(account, region, resource string) string {
	return "arn:" + Partition(region) + ":kms:" + region + ":" + account + ":" + resource
}

// Root returns the ARN of the root of an account.
func Root(partition, account string) string { return "arn:" + partition + ":iam::" + account + ":root" }

// partitions are the partitions other than aws, by the prefixes of the names of their Regions.
var partitions = [...]struct{ prefix, partition string }{
	{"cn-", "aws-cn"},
	{"us-gov-", "aws-us-gov"},
	{"us-iso-", "aws-iso"},
	{"us-isob-", "aws-iso-b"},
	{"eu-isoe-", "aws-iso-e"},
	{"us-isof-", "aws-iso-f"},
	{"eusc-", "aws-eusc"},
}

// Partition returns the partition that a Region belongs to.
func Partition(region string) string {
	for _, p := range partitions {
		if strings.HasPrefix(region, p.prefix) {
			return p.partition
		}
	}
	return "aws"
}

// IsAccount reports whether s has the form of an account ID: 12 digits.
func IsAccount(s string) bool {
	if len(s) != 12 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// IsRegion reports whether s has the form of the name of a Region or of a partition: 1 to 32
// lower-case letters, digits and hyphens. None of them is a separator in ARNs or record names.
func IsRegion(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// geographies begin the names of Regions. A cardinal direction and a number follow.
var geographies = []string{"us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx",
	"cn", "us-gov", "us-iso", "us-isob", "eu-isoe", "us-isof", "eusc-de"}

// IsRegionOfPartition reports whether s has the form that a partition gives the names of its
// Regions, such as ap-southeast-1. [IsRegion] is true for more.
func IsRegionOfPartition(s string) bool {
	number := strings.LastIndexByte(s, '-')
	direction := strings.LastIndexByte(s[:max(number, 0)], '-')
	if direction < 0 || !IsRegion(s) || !slices.Contains(geographies, s[:direction]) {
		return false
	}
	return strings.Trim(s[direction+1:number], "abcdefghijklmnopqrstuvwxyz") == "" && number > direction+1 &&
		strings.Trim(s[number+1:], "0123456789") == "" && number < len(s)-1
}

// Prefixes of alias names.
const (
	AliasPrefix         = "alias/"
	ReservedAliasPrefix = "alias/aws/" // of the aliases of AWS managed keys
)

// IsAlias reports whether s is [AliasPrefix] followed by a name of the characters that the API
// allows, of at most 256 bytes together.
func IsAlias(s string) bool {
	name, ok := strings.CutPrefix(s, AliasPrefix)
	if !ok || name == "" || len(s) > 256 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '/' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
