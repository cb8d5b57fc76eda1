package main

import (
	"runtime/debug"

	"github.com/isthmus-mesh/isthmus/api/operator"
	"github.com/isthmus-mesh/isthmus/version"
)

// versionSupport is what "manifest versions" says.
type versionSupport struct {
	Installs      string `json:"installs"`
	API           string `json:"operatorAPI"`
	Kubernetes    string `json:"kubernetes"`
	Configuration string `json:"configuration"`
	UpgradesFrom  string `json:"upgradesFrom"`
}

func supportedVersions() versionSupport {
	return versionSupport{
		Installs:   version.Version,
		API:        operator.APIVersion,
		Kubernetes: "1.27 or later; native sidecars from 1.29",
		// The Istio APIs are those of the module that was built in.
		Configuration: "Istio APIs of istio.io/api " + moduleVersion("istio.io/api"),
		UpgradesFrom:  "any earlier version of this binary",
	}
}

// moduleVersion is the version of a module that this binary is built with.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "unknown"
}
