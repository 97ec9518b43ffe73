// What @atproto/repo and @atproto/lexicon make of repositories and answers: the oracle for ours.
//   verify CAR DID KEY       reads and verifies a CAR, builds its tree once more; prints {records, data, rev, ms, buildMs}
//   create OUT DID N         makes a repository of N records, deletes a tenth again, writes its CAR; prints {key, records, data, createMs, exportMs}
//   diff OLD NEW DID KEY     what a CAR since a revision changes in an older one; prints {creates, updates, deletes, data, rev}
//   proofs DID KEY           reads {car, collection, rkey, cid} a line, car in base64, cid null for "not there"; prints {verified, records, refused}
//   cars DID KEY             reads {name, car} a line, car in base64, and verifies each from its first root; prints {taken: [name], refused: [text]}
//   outputs LEXICONS         reads {nsid, output} a line, holds them against the lexicons of a folder; prints {checked, wrong: [text]}
import { createWriteStream, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'
import { Secp256k1Keypair } from '@atproto/crypto'
import { parseCid } from '@atproto/lex-data'
import { Lexicons, jsonToLex } from '@atproto/lexicon'
import { MST, MemoryBlockstore, Repo, WriteOpAction, getFullRepo, readCar, readCarWithRoot, verifyDiffCar, verifyProofs, verifyRecords, verifyRepo, verifyRepoCar } from '@atproto/repo'

const [verb, ...args] = process.argv.slice(2)
const started = performance.now()
const since = (t) => Math.round(performance.now() - t)
const lines = async function* () {
  for await (const line of createInterface({ input: process.stdin })) if (line) yield JSON.parse(line)
}

async function verify(file, did, key) {
  const bytes = readFileSync(file)
  const { creates, commit } = await verifyRepoCar(bytes, did, key)
  const ms = since(started)
  const { root, blocks } = await readCarWithRoot(bytes)
  const repo = await Repo.load(new MemoryBlockstore(blocks), root)
  const data = (await repo.data.getPointer()).toString()
  const t = performance.now()
  let tree = await MST.create(new MemoryBlockstore())
  for (const c of creates) tree = await tree.add(c.collection + '/' + c.rkey, c.cid)
  const built = (await tree.getPointer()).toString()
  if (built !== data) throw new Error(`the records make the tree ${built}, the commit says ${data}`)
  return { records: creates.length, data, rev: commit.rev, ms, buildMs: since(t) }
}

async function create(file, did, count) {
  const n = Number(count)
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
  return { key: key.did(), records: n - gone.length, data: (await repo.data.getPointer()).toString(), createMs, exportMs: since(t) }
}

async function diff(older, newer, did, key) {
  const { root, blocks } = await readCarWithRoot(readFileSync(older))
  const repo = await Repo.load(new MemoryBlockstore(blocks), root)
  const bytes = readFileSync(newer)
  const { writes, commit } = await verifyDiffCar(repo, bytes, did, key)
  const count = (action) => writes.filter((w) => w.action === action).length
  const after = await readCarWithRoot(bytes)
  const store = new MemoryBlockstore(after.blocks)
  const now = await Repo.load(store, after.root)
  return {
    creates: count(WriteOpAction.Create), updates: count(WriteOpAction.Update), deletes: count(WriteOpAction.Delete),
    data: now.commit.data.toString(), rev: commit.rev,
  }
}

async function proofs(did, key) {
  const out = { verified: 0, records: 0, refused: 0 }
  for await (const { car, collection, rkey, cid } of lines()) {
    const bytes = Buffer.from(car, 'base64')
    const claim = { collection, rkey, cid: cid && parseCid(cid) }
    try {
      const { verified } = await verifyProofs(bytes, [claim], did, key)
      if (verified.length === 1) out.verified++
      else out.refused++
      const found = await verifyRecords(bytes, did, key)
      if (found.some((r) => r.collection === collection && r.rkey === rkey)) out.records++
    } catch (e) {
      if (e.message.startsWith('Invalid')) out.refused++
      else throw e
    }
  }
  return out
}

async function cars(did, key) {
  const out = { taken: [], refused: [] }
  for await (const { name, car } of lines()) {
    try {
      const { roots, blocks } = await readCar(Buffer.from(car, 'base64')) // readCarWithRoot wants one root
      await verifyRepo(blocks, roots[0], did, key)
      out.taken.push(name)
    } catch (e) {
      out.refused.push(`${name}: ${e.message}`)
    }
  }
  return out
}

async function outputs(folder) {
  const docs = readdirSync(folder, { recursive: true }).filter((f) => f.endsWith('.json')).map((f) => JSON.parse(readFileSync(join(folder, f))))
  const lexicons = new Lexicons(docs.filter((d) => d.lexicon === 1))
  const out = { checked: 0, wrong: [] }
  for await (const { nsid, output } of lines()) {
    try {
      lexicons.assertValidXrpcOutput(nsid, jsonToLex(output))
      out.checked++
    } catch (e) {
      out.wrong.push(`${nsid}: ${e.message}`)
    }
  }
  return out
}

const run = { verify, create, diff, proofs, cars, outputs }[verb]
if (!run) throw new Error('verify, create, diff, proofs, cars or outputs')
console.log(JSON.stringify(await run(...args)))
