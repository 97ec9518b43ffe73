package pds

// SendPulls tells holds of all pulls that wait, and returns when they answered.
func (b *Backend) SendPulls() {
	b.sendPulls(true)
	b.work.Wait()
}
