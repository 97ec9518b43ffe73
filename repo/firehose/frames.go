package firehose

// The two messages that are no events: DAG-CBOR of a header and a body, https://atproto.com/specs/event-stream

func errorFrame(name, message string) []byte {
	b := append([]byte{0xa1}, text("op")...)
	return body(append(b, 0x20), "error", name, message) // -1
}

func infoFrame(name, message string) []byte {
	b := append([]byte{0xa2}, text("t")...)
	b = append(append(b, text("#info")...), text("op")...)
	return body(append(b, 1), "name", name, message)
}

func body(b []byte, field, name, message string) []byte {
	b = append(b, 0xa2)
	b = append(append(b, text(field)...), text(name)...)
	return append(append(b, text("message")...), text(message)...)
}

// text is a CBOR string of less than 256 bytes.
func text(s string) []byte {
	if len(s) < 24 {
		return append([]byte{0x60 | byte(len(s))}, s...)
	}
	return append([]byte{0x78, byte(len(s))}, s...)
}
