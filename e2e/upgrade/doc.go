// Package upgrade holds no code, only tests that data folders made by earlier versions open under this one.
//
// testdata has one folder for each earlier version: archives of the data folders of a small network that was copied while it
// ran, as a kill leaves them, what they hold (facts.json), and the program that made them. Archives are never made anew: the
// version that wrote them is the point.
package upgrade
