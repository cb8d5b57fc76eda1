package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"
)

// The words for an endpoint's health.
const (
	healthGood      = "healthy"
	healthSuspect   = "suspect"
	healthEjected   = "ejected"
	healthUnhealthy = "unhealthy"
	// yetUsed follows the others where an endpoint gets calls all the same: too few
	// of its priority are healthy (panic), or nobody is.
	yetUsed = ", yet used"
)

// placed says of an endpoint what a client's position makes of it.
func (e *endpointSeen) placed(from clientPosition) placedThere {
	out := placedThere{
		Priority: e.Priority, Share: e.Share, Address: e.Address.String(), Workload: e.Workload.Name, Cluster: e.Workload.Cluster,
		Region: e.Region, Zone: e.Zone, SubZone: e.SubZone, Gateway: e.Gateway, Network: e.Network, Weight: e.Weight,
		Health: e.health(), EjectedUntil: e.EjectedUntil, Active: e.Active,
		Place: e.place(from),
	}
	if !e.Address.IsValid() {
		out.Address = e.Hostname
	}
	return out
}

func (e *endpointSeen) health() string {
	out := healthGood
	switch {
	case e.Ejected:
		out = healthEjected
	case e.Unhealthy:
		out = healthUnhealthy
	case e.Doubted:
		out = healthSuspect
	}
	if out != healthGood && e.Share > 0 {
		out += yetUsed
	}
	return out
}

// place says how far an endpoint is.
func (e *endpointSeen) place(from clientPosition) string {
	where := ""
	switch {
	case e.Region == "" || from.Region == "":
		where = "nobody says where"
	case e.Region != from.Region:
		where = "another region"
	case e.Zone != from.Zone:
		where = "same region"
	case e.SubZone != from.SubZone:
		where = "same zone"
	default:
		where = "same place"
	}
	if e.Workload.Cluster != "" && from.Cluster != "" && e.Workload.Cluster != from.Cluster {
		where += ", another cluster"
	}
	if e.Gateway {
		where += ", through a gateway"
	}
	return where
}

// printLocality prints a table for each port.
func printLocality(out io.Writer, ports []portSeen, now time.Time) error {
	from := ports[0].From
	fmt.Fprintf(out, "Seen by %s in namespace %s", from.Pod, from.Namespace)
	if from.Cluster != "" {
		fmt.Fprintf(out, ", cluster %s", from.Cluster)
	}
	if where := locality(from.Region, from.Zone, from.SubZone); where != "-" {
		fmt.Fprintf(out, ", %s", where)
	}
	fmt.Fprintln(out)

	for _, p := range ports {
		fmt.Fprintf(out, "\n%s, port %d", p.Host, p.Port)
		if p.Subset != "" {
			fmt.Fprintf(out, ", subset %s", p.Subset)
		}
		fmt.Fprintln(out)
		if len(p.Endpoints) == 0 {
			fmt.Fprintln(out, "it has no endpoints")
			continue
		}
		if err := printEndpoints(out, p.Endpoints, now); err != nil {
			return err
		}
		for _, by := range p.SetBy {
			fmt.Fprintln(out, "set by "+by)
		}
	}
	return nil
}

func printEndpoints(out io.Writer, endpoints []placedThere, now time.Time) error {
	table := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(table, "PRIORITY\tSHARE\tENDPOINT\tWORKLOAD\tCLUSTER\tNETWORK\tLOCALITY\tWEIGHT\tACTIVE\tHEALTH\tWHERE")
	for _, e := range endpoints {
		workload := cmp.Or(e.Workload, "-")
		if e.Gateway {
			workload = "(gateway)"
		}
		health := e.Health
		if left := e.EjectedUntil.Sub(now); strings.HasPrefix(health, healthEjected) && left > 0 {
			health = fmt.Sprintf("%s for %s%s", healthEjected, left.Round(time.Second), strings.TrimPrefix(health, healthEjected))
		}
		fmt.Fprintf(table, "%d\t%.0f%%\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", e.Priority, math.Round(100*e.Share), e.Address, workload,
			cmp.Or(e.Cluster, "-"), cmp.Or(e.Network, "-"), locality(e.Region, e.Zone, e.SubZone), e.Weight, e.Active, health, e.Place)
	}
	return table.Flush()
}

// locality writes a place as Istio does: region/zone/subzone.
func locality(region, zone, subzone string) string {
	return cmp.Or(strings.TrimRight(strings.Join([]string{region, zone, subzone}, "/"), "/"), "-")
}
