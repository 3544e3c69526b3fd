package main

import (
	"bytes"
	"image/color"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// chart draws one figure of several cases, a group of bars for each, a bar for
// each side.
type chart struct {
	file, title string
	column      string
	// cases are those with these words in their names.
	cases string
}

// charts are those of docs/performance.md.
var charts = []chart{
	{file: "performance-cpu.svg", title: "Processor time per check (µs)", column: cpuPerCheck, cases: "known,foreign"},
	{file: "performance-p99.svg", title: "99th percentile of a check at a fixed rate (µs)", column: "p99 µs", cases: "known,foreign"},
	{file: "performance-envoy.svg", title: "New connections per second through one worker thread of Envoy", column: "connections/s", cases: "envoy-"},
}

// colours of sides; told apart without colour vision, too (Okabe and Ito).
var colours = map[string]color.Color{
	"hubgate": color.RGBA{R: 0x00, G: 0x72, B: 0xB2, A: 0xFF},
	"module":  color.RGBA{R: 0x56, G: 0xB4, B: 0xE9, A: 0xFF},
	"stock":   color.RGBA{R: 0xE6, G: 0x9F, B: 0x00, A: 0xFF},
	"raw":     color.RGBA{R: 0x99, G: 0x99, B: 0x99, A: 0xFF},
	"none":    color.RGBA{R: 0xCC, G: 0xCC, B: 0xCC, A: 0xFF},
}

// draw gives the chart as SVG.
func (c chart) draw(results []result) ([]byte, error) {
	wanted, err := chosen(c.cases)
	if err != nil {
		return nil, err
	}
	results = slices.DeleteFunc(slices.Clone(results), func(r result) bool {
		return !slices.Contains(r.Columns, c.column) || !slices.ContainsFunc(wanted, func(b benchCase) bool { return b.name == r.Case })
	})
	var names, sides []string
	for _, r := range results {
		names = append(names, r.Case)
		for _, row := range r.Rows {
			if !slices.Contains(sides, row.Side) {
				sides = append(sides, row.Side)
			}
		}
	}
	p := plot.New()
	sans := font.Font{Typeface: "Liberation", Variant: "Sans", Size: 11}
	p.Title.Text = c.title
	for _, f := range []*font.Font{&p.Title.TextStyle.Font, &p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font} {
		*f = sans
	}
	p.Title.Padding = vg.Points(6)
	p.Legend.Top, p.Legend.Padding, p.Legend.ThumbnailWidth = true, vg.Points(4), vg.Points(12)
	const width = 18
	for i, s := range sides {
		values := make(plotter.Values, len(results))
		for j, r := range results {
			for _, row := range r.Rows {
				if row.Side == s {
					values[j] = row.Figures[c.column]
				}
			}
		}
		bars, err := plotter.NewBarChart(values, vg.Points(width))
		if err != nil {
			return nil, err
		}
		bars.Color, bars.LineStyle.Width = colours[s], 0
		bars.Offset = vg.Points(width * (float64(i) - float64(len(sides)-1)/2))
		p.Add(bars)
		p.Legend.Add(s, bars)
	}
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.6, float64(len(names))-0.1 // room for the legend
	p.Y.Min, p.Y.Tick.Marker = 0, plot.TickerFunc(func(low, high float64) []plot.Tick {
		ticks := plot.DefaultTicks{}.Ticks(low, high)
		for i, t := range ticks {
			if !t.IsMinor() {
				ticks[i].Label = number(t.Value)
			}
		}
		return ticks
	})
	to, err := p.WriterTo(16*vg.Centimeter, 8*vg.Centimeter, "svg")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	_, err = to.WriteTo(&out)
	return out.Bytes(), err
}
