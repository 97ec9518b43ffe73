// Serves did:plc directories and reference PDSes from this process, on loopback,
// and makes accounts. Loading the packages takes 1 s or, on a busy machine, 20;
// a network of its own takes each test a fraction of that. Speaks lines of JSON:
//
//   stdout, first   {loaded: true}: the packages are there
//   stdin           {id, do: "open", state: DIR, pds: 1, accounts: ["alice"], publicPorts: [],
//                    hostname, pdsPort, plcPort}     a directory, its PDSes and their accounts
//                   {id, do: "stop", network, pds}   takes a PDS down
//                   {id, do: "start", network, pds}  brings it back on the same port and state
//                   {id, do: "close", network}       ends a network
//   stdout          {id, error} or {id, …}; of "open": {id, plc, pds: [...], pdsLocal: [...], adminPassword,
//                   accounts: {name: {did, handle, password, pds, index}}}; the network's name is that id
//   end of stdin    everything stops, so a test that holds the pipe leaks nothing
//
// Handles are NAME.test; accounts are dealt round-robin over the PDSes.
// publicPorts are the ports that DID documents and PDSes give as their own: a
// proxy of the test stands there. With hostname the one PDS calls itself
// https://HOSTNAME: a proxy that speaks TLS stands there.
import fs from 'node:fs/promises'
import http from 'node:http'
import net from 'node:net'
import path from 'node:path'
import readline from 'node:readline'
import { randomBytes } from 'node:crypto'
import { Secp256k1Keypair } from '@atproto/crypto'
import { PDS } from '@atproto/pds'
import * as plcLib from '@did-plc/lib'
import * as plcServer from '@did-plc/server'

const password = 'correct-horse-battery'
const note = (text) => process.stderr.write(`${Math.round(performance.now())} ms: ${text}\n`)
const say = (v) => process.stdout.write(JSON.stringify(v) + '\n')
const hex = (n) => randomBytes(n).toString('hex')
// Below those that the system hands out, so that a PDS that was stopped finds its port free again.
const freePort = async () => {
  for (let tries = 0; ; tries++) {
    const port = 15000 + Math.floor(Math.random() * 17768)
    const free = await new Promise((ok) => {
      const s = net.createServer().once('error', () => ok(false))
      s.listen(port, '127.0.0.1', () => s.close(() => ok(true)))
    })
    if (free) return port
    if (tries === 100) throw new Error('no free port')
  }
}

// The directory listens on all interfaces as shipped, and renders documents with
// a retired key type that current libraries refuse. So GET /{did} is rendered
// here, in today's form, from the package's own operation log, and the rest is
// handed to the package behind a loopback listener.
async function startPlc(port) {
  const plc = plcServer.PlcServer.create({ db: plcServer.Database.mock() })
  const server = http.createServer(async (req, res) => {
    const m = req.method === 'GET' && /^\/(did:plc:[a-z2-7]{24})$/.exec(decodeURIComponent(req.url))
    const last = m && (await plc.ctx.db.lastOpForDid(m[1]).catch(() => null))
    if (!last || last.type === 'plc_tombstone') return plc.app(req, res)
    res
      .writeHead(200, { 'content-type': 'application/did+ld+json' })
      .end(JSON.stringify(document(plcLib.opToData(m[1], last))))
  })
  await new Promise((ok) => server.listen(port, '127.0.0.1', ok))
  return { server, url: `http://localhost:${server.address().port}` }
}

function document(d) {
  return {
    '@context': [
      'https://www.w3.org/ns/did/v1',
      'https://w3id.org/security/multikey/v1',
      'https://w3id.org/security/suites/secp256k1-2019/v1',
    ],
    id: d.did,
    alsoKnownAs: d.alsoKnownAs,
    verificationMethod: Object.entries(d.verificationMethods).map(([id, key]) => ({
      id: `${d.did}#${id}`,
      type: 'Multikey',
      controller: d.did,
      publicKeyMultibase: key.replace(/^did:key:/, ''),
    })),
    service: Object.entries(d.services).map(([id, s]) => ({
      id: `#${id}`,
      type: s.type,
      serviceEndpoint: s.endpoint,
    })),
  }
}

async function pdsEnv(opt, i, plcUrl, adminPassword, publicPort) {
  const dir = path.join(opt.state, `pds${i}`)
  await fs.mkdir(path.join(dir, 'blobs'), { recursive: true })
  const rotation = await Secp256k1Keypair.create({ exportable: true })
  return {
    devMode: true, // http issuer, ws://
    hostname: opt.hostname,
    disableSsrfProtection: true, // may fetch client metadata from loopback
    port: publicPort, // without a hostname: the PDS calls itself http://localhost:PORT, did:web:localhost
    dataDirectory: dir,
    blobstoreDiskLocation: path.join(dir, 'blobs'),
    blobUploadLimit: 50 * 1024 * 1024,
    didPlcUrl: plcUrl,
    recoveryDidKey: (await Secp256k1Keypair.create()).did(),
    plcRotationKeyK256PrivateKeyHex: Buffer.from(await rotation.export()).toString('hex'),
    jwtSecret: hex(16),
    dpopSecret: hex(32),
    adminPassword,
    serviceHandleDomains: ['.test'],
    inviteRequired: false,
    rateLimitsEnabled: false,
    serviceName: `Test PDS ${i}`,
    crawlers: [],
  }
}

async function startPds(server) {
  const pds = await PDS.fromEnv(server.env)
  pds.ctx.cfg.service.port = server.port // the public port may be a proxy's
  await pds.start()
  server.pds = pds
}

async function stopPds(server) {
  const pds = server.pds
  server.pds = null
  if (!pds) return
  pds.server?.closeAllConnections?.()
  await pds.destroy()
}

async function createAccount(name, server, index) {
  const handle = `${name}.test`
  const res = await fetch(`http://localhost:${server.port}/xrpc/com.atproto.server.createAccount`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ handle, email: `${name}@mail.test`, password }),
  })
  const body = await res.json()
  if (!res.ok) throw new Error(`createAccount ${handle}: ${JSON.stringify(body)}`)
  return { did: body.did, handle, password, pds: server.url, index }
}

const networks = new Map()

async function openNetwork(opt) {
  const net = { servers: [] }
  networks.set(opt.id, net) // what was started of it is stopped even if the rest fails
  net.plc = await startPlc(opt.plcPort ?? 0)
  note(`${opt.id}: directory up`)
  const adminPassword = hex(8)
  for (let i = 0; i < opt.pds; i++) {
    const port = opt.pdsPort ?? (await freePort())
    const publicPort = opt.publicPorts?.[i] ?? port
    const url = opt.hostname ? `https://${opt.hostname}` : `http://localhost:${publicPort}`
    const server = { port, url, local: `http://localhost:${port}` }
    server.env = await pdsEnv(opt, i, net.plc.url, adminPassword, publicPort)
    await startPds(server)
    note(`${opt.id}: PDS ${i} up`)
    net.servers.push(server)
  }
  const accounts = {}
  for (const [n, name] of (opt.accounts ?? []).entries()) {
    const index = n % net.servers.length
    accounts[name] = await createAccount(name, net.servers[index], index)
  }
  note(`${opt.id}: accounts made`)
  return {
    plc: net.plc.url,
    pds: net.servers.map((s) => s.url),
    pdsLocal: net.servers.map((s) => s.local),
    adminPassword,
    accounts,
  }
}

async function closeNetwork(id) {
  const net = networks.get(id)
  networks.delete(id)
  await Promise.allSettled(net.servers.map(stopPds))
  net.plc?.server.closeAllConnections()
  net.plc?.server.close()
}

async function stopAll() {
  await Promise.allSettled([...networks.keys()].map(closeNetwork))
  process.exit(0)
}
process.on('SIGTERM', stopAll)
process.on('SIGINT', stopAll)

async function answer(command) {
  const { id } = command
  try {
    if (command.do === 'open') return say({ id, ...(await openNetwork(command)) })
    const net = networks.get(command.network)
    if (!net) throw new Error(`no network ${command.network}`)
    if (command.do === 'close') await closeNetwork(command.network)
    else if (command.do === 'stop') await stopPds(net.servers[command.pds])
    else if (command.do === 'start') await startPds(net.servers[command.pds])
    else throw new Error(`unknown command ${command.do}`)
    say({ id })
  } catch (err) {
    say({ id, error: err.message })
  }
}

say({ loaded: true })
for await (const line of readline.createInterface({ input: process.stdin })) answer(JSON.parse(line))
await stopAll()
