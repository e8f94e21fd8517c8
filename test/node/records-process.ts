/** A process that stores argv[3] settings in the records argv[2], one after another, and prints how each went; a test runs it under strace. */
import { silentLog } from '../../node/log.ts'
import { openRecords } from '../../node/storage/records.ts'

const [file = '', count = '0'] = process.argv.slice(2)
const records = await openRecords({ file, log: silentLog })
const said: string[] = []
for (let i = 0; i < Number(count); i++) {
  said.push(
    await records.setSetting(`n${i}`, String(i)).then(
      () => 'ok',
      (error: { code: string }) => error.code,
    ),
  )
}
await records.close()
console.log(JSON.stringify(said))
