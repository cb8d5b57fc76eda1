package operator

import "strings"

// nearest returns the candidate that a mistyped word most likely meant, or ""
// when none is close: the edit distance, case aside, may be at most a third of
// the word.
func nearest(word string, candidates []string) string {
	best, bestDist := "", len(word)/3+1
	if bestDist < 2 {
		bestDist = 2
	}
	w := strings.ToLower(camel(word))
	for _, c := range candidates {
		lc := strings.ToLower(c)
		d := distance(w, lc)
		// A word that is the start or the end of a key is close to it,
		// however long the rest.
		if len(w) >= 4 && (strings.HasPrefix(lc, w) || strings.HasSuffix(lc, w)) && d > 1 {
			d = 1
		}
		if d < bestDist {
			best, bestDist = c, d
		}
	}
	return best
}

// distance is the number of insertions, deletions, replacements and swaps of
// neighbours that turn a into b.
func distance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
