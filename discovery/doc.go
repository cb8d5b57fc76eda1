// Package discovery is the control plane, assembled: it reads its own cluster
// and the others of the mesh into the model, serves xDS from it to proxies, signs
// their certificates, injects sidecars into pods and validates configuration.
//
// It holds no logic of the mesh: that is in the packages that it joins. What is
// its own is the order in which they start and stop, the sockets and who may use
// them, and the pages for people who look for a mistake. It reads neither flags
// nor the environment: `isthmus discovery` does.
package discovery
