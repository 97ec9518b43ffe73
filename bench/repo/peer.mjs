// The same work by @atproto/repo, in memory.
//   make OUT N            a repository whose initial writes are N layer records; its CAR goes to OUT
//   verify CAR DID KEY    a CAR, from memory
// Each prints one line of JSON; times are in milliseconds.
import { createHash } from 'node:crypto'
import { createWriteStream, readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Secp256k1Keypair } from '@atproto/crypto'
import { MemoryBlockstore, Repo, WriteOpAction, getFullRepo, verifyRepoCar } from '@atproto/repo'

const [verb, file, a, b] = process.argv.slice(2)

const digits = '234567abcdefghijklmnopqrstuvwxyz'
const tid = (i) => {
  let n = (1_700_000_000_000_000n + BigInt(i) * 1000n) << 10n
  let s = ''
  for (let k = 0; k < 13; k++, n >>= 5n) s = digits[Number(n & 31n)] + s
  return s
}
const hash = (s) => createHash('sha256').update(s).digest('hex')

const layer = (i) => ({
  action: WriteOpAction.Create,
  collection: 'io.atcr.hold.layer',
  rkey: tid(i),
  record: {
    $type: 'io.atcr.hold.layer',
    digest: 'sha256:' + hash('layer ' + i),
    size: 1000 + i,
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
    manifest: 'at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/io.atcr.manifest/' + hash('manifest ' + Math.floor(i / 5)),
    userDid: 'did:plc:ewvi7nxzyoun6zhxrhs64oiz',
    createdAt: '2026-11-24T12:00:00.000Z',
  },
})

const timed = async (f) => {
  const t = performance.now()
  const out = await f()
  return [out, performance.now() - t]
}

if (verb === 'make') {
  const did = 'did:web:peer.example'
  const writes = Array.from({ length: Number(a) }, (_, i) => layer(i))
  const key = await Secp256k1Keypair.create()
  const storage = new MemoryBlockstore()
  const [repo, create] = await timed(() => Repo.create(storage, did, key, writes))
  const [bytes, exported] = await timed(async () => {
    let n = 0
    for await (const chunk of getFullRepo(storage, repo.cid)) n += chunk.length
    return n
  })
  await pipeline(Readable.from(getFullRepo(storage, repo.cid)), createWriteStream(file))
  console.log(JSON.stringify({ did, key: key.did(), bytes, create, export: exported }))
} else if (verb === 'verify') {
  const car = readFileSync(file)
  const [{ creates }, verify] = await timed(() => verifyRepoCar(car, a, b))
  console.log(JSON.stringify({ records: creates.length, verify }))
} else {
  throw new Error('make or verify')
}
