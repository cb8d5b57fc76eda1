package redirect

import (
	"errors"
	"fmt"
	"os"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Apply puts the rules in force in the network namespace of the calling
// thread. It replaces what an earlier Apply left, in one transaction, so it may
// be called again at any time. It needs CAP_NET_ADMIN.
func Apply(c Config) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("redirect: %w", err)
	}

	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("redirect: open netlink: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: TableName}

	// Adding before deleting makes the deletion valid when there is none.
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
	addChain(conn, table, nat("output", nftables.ChainHookOutput), c.outputRules())
	addChain(conn, table, nat("prerouting", nftables.ChainHookPrerouting), c.inputRules())
	if len(c.queried()) > 0 {
		addChain(conn, table, raw("queries", nftables.ChainHookOutput), c.untrackedQueries())
		addChain(conn, table, raw("answers", nftables.ChainHookPrerouting), c.untrackedAnswers())
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("redirect: write table inet %s: %w", TableName, hint(err))
	}
	return addPassthroughV6()
}

// nat is a chain that decides about each connection once.
func nat(name string, hook *nftables.ChainHook) nftables.Chain {
	return nftables.Chain{Name: name, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: nftables.ChainPriorityNATDest}
}

// raw is a chain that sees each packet before it is tracked.
func raw(name string, hook *nftables.ChainHook) nftables.Chain {
	return nftables.Chain{Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityRaw}
}

func addChain(conn *nftables.Conn, table *nftables.Table, chain nftables.Chain, rules []rule) {
	policy := nftables.ChainPolicyAccept
	chain.Table, chain.Policy = table, &policy
	added := conn.AddChain(&chain)
	for _, r := range rules {
		conn.AddRule(&nftables.Rule{Table: table, Chain: added, Exprs: r})
	}
}

// Clean removes the rules. Without any there it does nothing.
func Clean() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("redirect: open netlink: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: TableName}
	conn.AddTable(table)
	conn.DelTable(table)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("redirect: delete table inet %s: %w", TableName, hint(err))
	}
	return nil
}

// hint says what to do about the errors that people meet.
func hint(err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: the container needs the capability NET_ADMIN", err)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: the kernel lacks nftables NAT for family inet (Linux 5.2, modules nf_tables, nft_chain_nat, nft_redir, nft_ct)", err)
	}
	return err
}
