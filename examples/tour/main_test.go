package main

import (
	"context"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pocketkms/kms"
)

func TestTheTourCallsEveryOperationAndSaysWhatCameBack(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, story))

	var rows []string
	for _, row := range regexp.MustCompile(`(?m)^  ([A-Z][A-Za-z]+) +(\S.*)$`).FindAllStringSubmatch(out.String(), -1) {
		rows = append(rows, row[1])
	}
	slices.Sort(rows)
	var operations []string
	for _, op := range kms.Operations() {
		operations = append(operations, op.Name())
	}
	require.Equal(t, operations, rows)
	for line := range strings.Lines(out.String()) {
		require.LessOrEqual(t, len([]rune(line)), 120, line)
	}
}

func TestATourThatLeavesAnOperationOutFails(t *testing.T) {
	shorter := slices.Clone(story)
	last := &shorter[len(shorter)-1]
	last.steps = last.steps[:len(last.steps)-1]
	require.EqualError(t, run(t.Context(), io.Discard, shorter), "CancelKeyDeletion was called 0 times")
}

func TestATourThatCallsAnOperationTwiceFails(t *testing.T) {
	again := call((*kms.Service).ListKeys, func(*tour) *kms.ListKeysInput { return nil }, func(*tour, *kms.ListKeysOutput) string { return "" })
	longer := append(slices.Clone(story), chapter{"Once more", []step{again}})
	require.EqualError(t, run(t.Context(), io.Discard, longer), "ListKeys was called 2 times")
}

func TestATourEndsAtAWrongAnswer(t *testing.T) {
	wrong := call((*kms.Service).ListKeys, func(*tour) *kms.ListKeysInput { return nil }, func(t *tour, _ *kms.ListKeysOutput) string {
		t.require(false, "something else")
		return ""
	})
	require.EqualError(t, run(t.Context(), io.Discard, []chapter{{"", []step{wrong}}}), "ListKeys: the answer is wrong: something else")
}

func TestATourEndsAtARefusal(t *testing.T) {
	refused := call((*kms.Service).DescribeKey, func(*tour) *kms.DescribeKeyInput { return &kms.DescribeKeyInput{KeyId: "alias/none"} },
		func(*tour, *kms.DescribeKeyOutput) string { return "" })
	err := run(t.Context(), io.Discard, []chapter{{"", []step{refused}}})
	require.ErrorContains(t, err, "DescribeKey: ")
	require.ErrorIs(t, err, kms.NotFoundException)
}

func TestATourEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.True(t, errors.Is(run(ctx, io.Discard, story), context.Canceled))
}
