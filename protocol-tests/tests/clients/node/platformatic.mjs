// @platformatic/kafka: it speaks the newest versions of everything.
import { Admin, Consumer, Producer, stringDeserializers, stringSerializers } from '@platformatic/kafka'

const [bootstrap, topic] = process.argv.slice(2)
const base = { clientId: 'clients', bootstrapBrokers: [bootstrap] }
const admin = new Admin(base)
await admin.createTopics({ topics: [topic], partitions: 3, replicas: 1 })

const producer = new Producer({ ...base, serializers: stringSerializers, idempotent: true, autocreateTopics: false })
for (let from = 0; from < 300; from += 100) {
  await producer.send({
    messages: Array.from({ length: 100 }, (_, i) => ({
      topic, key: `k${(from + i) % 20}`, value: `v${from + i}`, headers: { h: '1' },
    })),
  })
}
await producer.close()

for (const groupProtocol of ['classic', 'consumer']) {
  const consumer = new Consumer({
    ...base, groupId: `${topic}-${groupProtocol}`, groupProtocol, deserializers: stringDeserializers,
  })
  const stream = await consumer.consume({ topics: [topic], mode: 'earliest', autocommit: false, maxWaitTime: 500 })
  const values = new Set()
  const timer = setTimeout(() => { throw new Error(`${values.size} values within 60 s`) }, 60_000)
  for await (const message of stream) {
    if (values.has(message.value)) throw new Error(`${message.value} came twice`)
    values.add(message.value)
    if (values.size === 300) { await message.commit(); break }
  }
  clearTimeout(timer)
  await consumer.close(true)
}
const groups = await admin.listGroups()
if (!groups.has(`${topic}-classic`)) throw new Error('the group is not listed')
await admin.close()
console.log('all ok')
