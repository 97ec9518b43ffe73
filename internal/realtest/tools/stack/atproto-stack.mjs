// Serves one did:plc directory and N reference PDSes from this process, on
// loopback, and makes accounts. Speaks lines of JSON:
//
//   stdout, first        {loaded: true}: the packages are there, which takes 1 s or, on a busy machine, 20
//   stdout, when ready   {plc, pds: [...], adminPassword, accounts: {name: {did, handle, password, pds, index}}}
//   stdin                "stop N" takes PDS N down, "start N" brings it back on the
//                        same port and state; each is answered by {"done": "..."} or {"error": "..."}
//   end of stdin         everything stops, so a test that holds the pipe leaks nothing
//
//   node atproto-stack.mjs --state DIR [--pds 1] [--accounts alice,bob] [--password P]
//                          [--public-ports 1234,1235] [--hostname pds.test --pds-port N --plc-port N]
//
// Handles are NAME.test; accounts are dealt round-robin over the PDSes.
// --public-ports names the ports that DID documents and PDSes give as their
// own: a proxy of the test stands there. With --hostname the one PDS calls
// itself https://HOSTNAME: a proxy that speaks TLS stands there.
import fs from 'node:fs/promises'
import http from 'node:http'
import net from 'node:net'
import path from 'node:path'
import readline from 'node:readline'
import { randomBytes } from 'node:crypto'
import { parseArgs } from 'node:util'
import { Secp256k1Keypair } from '@atproto/crypto'
import { PDS } from '@atproto/pds'
import * as plcLib from '@did-plc/lib'
import * as plcServer from '@did-plc/server'

const { values: opt } = parseArgs({
  options: {
    state: { type: 'string' },
    pds: { type: 'string', default: '1' },
    accounts: { type: 'string', default: 'alice,bob' },
    password: { type: 'string', default: 'correct-horse-battery' },
    'public-ports': { type: 'string', default: '' },
    hostname: { type: 'string' },
    'pds-port': { type: 'string' },
    'plc-port': { type: 'string', default: '0' },
  },
})

const note = (text) => process.stderr.write(`${Math.round(performance.now())} ms: ${text}\n`)
const say = (v) => process.stdout.write(JSON.stringify(v) + '\n')
const hex = (n) => randomBytes(n).toString('hex')
const freePort = () =>
  new Promise((ok, no) => {
    const s = net.createServer().once('error', no)
    s.listen(0, '127.0.0.1', () => {
      const { port } = s.address()
      s.close(() => ok(port))
    })
  })

// The directory listens on all interfaces as shipped, and renders documents with
// a retired key type that current libraries refuse. So GET /{did} is rendered
// here, in today's form, from the package's own operation log, and the rest is
// handed to the package behind a loopback listener.
async function startPlc() {
  const plc = plcServer.PlcServer.create({ db: plcServer.Database.mock() })
  const server = http.createServer(async (req, res) => {
    const m = req.method === 'GET' && /^\/(did:plc:[a-z2-7]{24})$/.exec(decodeURIComponent(req.url))
    const last = m && (await plc.ctx.db.lastOpForDid(m[1]).catch(() => null))
    if (!last || last.type === 'plc_tombstone') return plc.app(req, res)
    res
      .writeHead(200, { 'content-type': 'application/did+ld+json' })
      .end(JSON.stringify(document(plcLib.opToData(m[1], last))))
  })
  await new Promise((ok) => server.listen(Number(opt['plc-port']), '127.0.0.1', ok))
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

async function pdsEnv(i, plcUrl, adminPassword, publicPort) {
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
    body: JSON.stringify({ handle, email: `${name}@mail.test`, password: opt.password }),
  })
  const body = await res.json()
  if (!res.ok) throw new Error(`createAccount ${handle}: ${JSON.stringify(body)}`)
  return { did: body.did, handle, password: opt.password, pds: server.url, index }
}

say({ loaded: true })
const plc = await startPlc()
note('directory up')
const adminPassword = hex(8)
const publicPorts = opt['public-ports'].split(',').filter(Boolean).map(Number)
const servers = []
for (let i = 0; i < Number(opt.pds); i++) {
  const port = opt['pds-port'] ? Number(opt['pds-port']) : await freePort()
  const publicPort = publicPorts[i] ?? port
  const url = opt.hostname ? `https://${opt.hostname}` : `http://localhost:${publicPort}`
  const server = { port, url, local: `http://localhost:${port}` }
  server.env = await pdsEnv(i, plc.url, adminPassword, publicPort)
  await startPds(server)
  note(`PDS ${i} up`)
  servers.push(server)
}
const accounts = {}
for (const [n, name] of opt.accounts.split(',').filter(Boolean).entries()) {
  const index = n % servers.length
  accounts[name] = await createAccount(name, servers[index], index)
  note(`account ${name} made`)
}
say({
  plc: plc.url,
  pds: servers.map((s) => s.url),
  pdsLocal: servers.map((s) => s.local),
  adminPassword,
  accounts,
})

async function stopAll() {
  await Promise.allSettled(servers.map(stopPds))
  process.exit(0)
}
process.on('SIGTERM', stopAll)
process.on('SIGINT', stopAll)

for await (const line of readline.createInterface({ input: process.stdin })) {
  const [verb, n] = line.trim().split(' ')
  try {
    const server = servers[Number(n)]
    if (!server) throw new Error(`no PDS ${n}`)
    if (verb === 'stop') await stopPds(server)
    else if (verb === 'start') await startPds(server)
    else throw new Error(`unknown command ${verb}`)
    say({ done: line.trim() })
  } catch (err) {
    say({ error: `${line.trim()}: ${err.message}` })
  }
}
await stopAll()
