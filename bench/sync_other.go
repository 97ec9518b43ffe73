//go:build !unix

package main

func syncDisk() {}
