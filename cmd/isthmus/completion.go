package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func newCompletionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that completes commands in a shell",
		Example: `  # This shell
  source <(isthmus completion bash)

  # Every shell to come
  isthmus completion zsh > "${fpath[1]}/_isthmus"`,
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeCompletion(cmd.Root(), args[0], cmd.OutOrStdout())
		},
	}
}

func writeCompletion(root *cobra.Command, shell string, out io.Writer) error {
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(out, true)
	case "zsh":
		return root.GenZshCompletion(out)
	case "fish":
		return root.GenFishCompletion(out, true)
	case "powershell":
		return root.GenPowerShellCompletionWithDesc(out)
	}
	return fmt.Errorf("no completion for shell %q", shell)
}

// newCollateralCommand writes the files that go with a release, under the names
// that Istio gave them.
func newCollateralCommand() *cobra.Command {
	var bash, zsh bool
	var dir string
	cmd := &cobra.Command{
		Use:   "collateral",
		Short: "Write completion files into a directory",
		Example: `  isthmus collateral --bash --zsh -o tools/
  source tools/istioctl.bash`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !bash && !zsh {
				return fmt.Errorf("nothing to write: give --bash, --zsh or both")
			}
			// The file completes the name that the command was called by.
			name := cmd.Root().Name()
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			for _, f := range []struct {
				on          bool
				shell, file string
			}{{bash, "bash", name + ".bash"}, {zsh, "zsh", "_" + name}} {
				if !f.on {
					continue
				}
				if err := writeCompletionFile(cmd.Root(), f.shell, filepath.Join(dir, f.file)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&bash, "bash", false, "write NAME.bash")
	cmd.Flags().BoolVar(&zsh, "zsh", false, "write _NAME for zsh")
	cmd.Flags().StringVarP(&dir, "output", "o", ".", "`directory` to write into")
	return cmd
}

func writeCompletionFile(root *cobra.Command, shell, file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := writeCompletion(root, shell, f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
