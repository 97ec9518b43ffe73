// What @atproto/repo makes of repositories: the oracle for ours.
//   verify CAR DID KEY       reads and verifies a CAR; prints {records, data, rev, ms}
//   create OUT DID N         makes a repository of N records, deletes a tenth again, writes its CAR; prints {key, records, data, createMs, exportMs}
import { createWriteStream, readFileSync } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'
import { Secp256k1Keypair } from '@atproto/crypto'
import { MemoryBlockstore, Repo, WriteOpAction, getFullRepo, readCarWithRoot, verifyRepoCar } from '@atproto/repo'

const [verb, file, did, last] = process.argv.slice(2)
const started = performance.now()
const since = (t) => Math.round(performance.now() - t)

if (verb === 'verify') {
  const bytes = readFileSync(file)
  const { creates, commit } = await verifyRepoCar(bytes, did, last)
  const ms = since(started)
  const { root, blocks } = await readCarWithRoot(bytes)
  const repo = await Repo.load(new MemoryBlockstore(blocks), root)
  console.log(JSON.stringify({ records: creates.length, data: (await repo.data.getPointer()).toString(), rev: commit.rev, ms }))
} else if (verb === 'create') {
  const n = Number(last)
  const key = await Secp256k1Keypair.create()
  const storage = new MemoryBlockstore()
  const collections = ['io.atcr.tag', 'io.atcr.tag.more', 'io.atcr-x.y', 'app.unknown.thing']
  const writes = []
  for (let i = 0; i < n; i++) {
    writes.push({
      action: WriteOpAction.Create,
      collection: collections[i % 4],
      rkey: 'k' + ((i * 7919) % (n * 10)).toString(36) + '-' + i,
      record: { $type: collections[i % 4], n: i % 5 === 0 ? 0 : i, text: 'record with ünïcode and a number', list: [i, null, true] },
    })
  }
  let repo = await Repo.create(storage, did, key, writes)
  const createMs = since(started)
  const gone = writes.filter((_, i) => i % 10 === 3).map(({ collection, rkey }) => ({ action: WriteOpAction.Delete, collection, rkey }))
  for (let i = 0; i < gone.length; i += 1000) repo = await repo.applyWrites(gone.slice(i, i + 1000), key)
  const t = performance.now()
  await pipeline(Readable.from(getFullRepo(storage, repo.cid)), createWriteStream(file))
  console.log(JSON.stringify({ key: key.did(), records: n - gone.length, data: (await repo.data.getPointer()).toString(), createMs, exportMs: since(t) }))
} else {
  throw new Error('verify or create')
}
