// Package nds is the message in which names travel from discovery to the sidecars
// that answer DNS: Istio's NameTable, over ADS as any other resource, one for a
// proxy. It holds the generated code only.
//
// Source: https://github.com/istio/istio/blob/master/pkg/dns/proto/nds.proto
package nds

//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate
