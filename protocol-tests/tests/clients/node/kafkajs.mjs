// kafkajs: produce, a transaction, a group, admin.
import { Kafka, logLevel, CompressionTypes } from 'kafkajs'

const [bootstrap, topic] = process.argv.slice(2)
const kafka = new Kafka({ clientId: 'clients', brokers: [bootstrap], logLevel: logLevel.ERROR })
const admin = kafka.admin()
await admin.connect()
await admin.createTopics({ topics: [{ topic, numPartitions: 3, replicationFactor: 1 }], waitForLeaders: true })

const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, transactionalId: `${topic}-id` })
await producer.connect()
await producer.send({
  topic,
  acks: -1,
  compression: CompressionTypes.GZIP,
  messages: Array.from({ length: 300 }, (_, i) => ({ key: `k${i % 20}`, value: `v${i}`, headers: { h: '1' } })),
})
for (const round of [0, 1, 2]) {
  const transaction = await producer.transaction()
  await transaction.send({ topic, messages: Array.from({ length: 10 }, (_, i) => ({ value: `t${round}-${i}` })) })
  await (round === 1 ? transaction.abort() : transaction.commit())
}
await producer.disconnect()

const groupId = `${topic}-group`
const consumer = kafka.consumer({ groupId, readUncommitted: false })
await consumer.connect()
await consumer.subscribe({ topic, fromBeginning: true })
const values = new Set()
await new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error(`${values.size} values within 60 s`)), 60_000).unref()
  consumer.run({
    eachMessage: async ({ message }) => {
      const value = message.value.toString()
      if (values.has(value)) reject(new Error(`${value} came twice`))
      values.add(value)
      if (values.size === 320) resolve()
    },
  })
})
await consumer.disconnect()
const committed = await admin.fetchOffsets({ groupId, topics: [topic] })
const total = committed[0].partitions.reduce((sum, { offset }) => sum + Number(offset), 0)
if (total < 320) throw new Error(`committed up to ${total}`)
await admin.deleteGroups([groupId])
await admin.deleteTopics({ topics: [topic] })
await admin.disconnect()
console.log('all ok')
