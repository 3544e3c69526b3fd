package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// result is what a case found.
type result struct {
	Case string `json:"case"`
	What string `json:"what"`
	// Load is the machine's load average when the case ended: what else ran
	// there counts, too.
	Load float64 `json:"load"`
	// Columns are the figures, in their order in the table.
	Columns []string `json:"columns"`
	Rows    []row    `json:"rows"`
	Targets []target `json:"targets"`
}

// row is what was measured of one side, medians over the rounds.
type row struct {
	Side    string `json:"side"`
	Figures sample `json:"figures"`
}

// target is what a case is judged by: a figure of hubgate beside that of
// another side, in the same run.
type target struct {
	What     string  `json:"what"`
	Unit     string  `json:"unit"` // "×" for a ratio
	Measured float64 `json:"measured"`
	// Low and High are the quartiles over the rounds.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// AtMost or AtLeast is what is wanted; neither: it is only told.
	AtMost  float64 `json:"at_most,omitempty"`
	AtLeast float64 `json:"at_least,omitempty"`
}

// wanted says what the target is, "" if there is none.
func (t target) wanted() string {
	switch {
	case t.AtMost != 0:
		return "≤ " + t.format(t.AtMost)
	case t.AtLeast != 0:
		return "≥ " + t.format(t.AtLeast)
	}
	return ""
}

// met says whether the median meets the target, "" if there is none.
func (t target) met() string {
	switch {
	case t.AtMost == 0 && t.AtLeast == 0:
		return ""
	case t.AtMost != 0 && t.Measured > t.AtMost, t.AtLeast != 0 && t.Measured < t.AtLeast:
		return "missed"
	}
	return "met"
}

func (t target) format(v float64) string {
	if t.Unit == "×" {
		return fmt.Sprintf("%.2f ×", v)
	}
	return number(v) + " " + t.Unit
}

// number writes as many digits as say something.
func number(v float64) string {
	switch {
	case v >= 100 || v == float64(int(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// table writes the figures of each case, and then how they stand to the
// targets.
func table(out io.Writer, results []result) error {
	for _, r := range results {
		_, _ = fmt.Fprintf(out, "%s: %s (load %.1f)\n", r.Case, r.What, r.Load)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
		_, _ = fmt.Fprint(w, "\t")
		for _, c := range r.Columns {
			_, _ = fmt.Fprintf(w, "%s\t", c)
		}
		_, _ = fmt.Fprintln(w)
		for _, row := range r.Rows {
			_, _ = fmt.Fprintf(w, "%s\t", row.Side)
			for _, c := range r.Columns {
				text := ""
				if v, ok := row.Figures[c]; ok {
					text = number(v)
				}
				_, _ = fmt.Fprintf(w, "%s\t", text)
			}
			_, _ = fmt.Fprintln(w)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(out)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "case\tcompared\tmeasured\tquartiles\ttarget\t")
	for _, r := range results {
		for _, t := range r.Targets {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s to %s\t%s\t%s\n", r.Case, t.What, t.format(t.Measured), t.format(t.Low), t.format(t.High), t.wanted(), t.met())
		}
	}
	return w.Flush()
}

// sample is what one round measured of one side, by column.
type sample map[string]float64

// side is one of those that a case compares.
type side struct {
	name    string
	measure func() (sample, error)
	samples []sample
}

// measureInTurns measures each side so many times. They take turns, and turns
// at going first, so that what else happens on the machine happens to all.
func measureInTurns(sides []*side, rounds int) error {
	order := slices.Clone(sides)
	for range rounds {
		for _, s := range order {
			m, err := s.measure()
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			s.samples = append(s.samples, m)
		}
		slices.Reverse(order)
	}
	return nil
}

// rowsOf gives the medians.
func rowsOf(sides []*side) []row {
	var rows []row
	for _, s := range sides {
		figures := make(sample)
		for column := range s.samples[0] {
			figures[column] = quartile(s.values(column), 2)
		}
		rows = append(rows, row{s.name, figures})
	}
	return rows
}

func (s *side) values(column string) []float64 {
	values := make([]float64, len(s.samples))
	for i, m := range s.samples {
		values[i] = m[column]
	}
	return values
}

// ratio compares a figure of two sides, round by round.
func ratio(column string, of, to *side) target {
	return compare(column, of, to, "×", func(a, b float64) float64 { return a / b })
}

// more tells by how much a figure of one side exceeds the other's.
func more(column string, of, to *side) target {
	return compare(column, of, to, "more", func(a, b float64) float64 { return a - b })
}

func compare(column string, of, to *side, unit string, with func(a, b float64) float64) target {
	a, b := of.values(column), to.values(column)
	for i := range a {
		a[i] = with(a[i], b[i])
	}
	return target{
		What: fmt.Sprintf("%s, %s to %s", column, of.name, to.name), Unit: unit,
		Measured: quartile(a, 2), Low: quartile(a, 1), High: quartile(a, 3),
	}
}

// figure is one of a side that is judged by itself.
func figure(column, unit string, of *side) target {
	v := of.values(column)
	return target{What: fmt.Sprintf("%s, %s", column, of.name), Unit: unit, Measured: quartile(v, 2), Low: quartile(v, 1), High: quartile(v, 3)}
}

// exactly is a figure that is judged by itself.
func exactly(what, unit string, v float64) target {
	return target{What: what, Unit: unit, Measured: v, Low: v, High: v}
}

func (t target) atMost(v float64) target {
	t.AtMost = v
	return t
}

func (t target) atLeast(v float64) target {
	t.AtLeast = v
	return t
}

// quartile gives the first, the second (the median), or the third.
func quartile(values []float64, n int) float64 {
	return quantile(slices.Sorted(slices.Values(values)), float64(n)/4)
}

// quantile of what is sorted.
func quantile[T any](sorted []T, q float64) T {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
