import { describe, expect, it } from 'vitest'
import { anOutcome, aPrompt } from '../../support/prompts.ts'
import { nap, picture, startFleet, until } from './read-fleet.ts'

describe('/api/jobs', () => {
  it('lists jobs over a worker that has no such route, newest first', async () => {
    const fleet = await startFleet()
    const done = await fleet.run({ prompt: picture(), extra_data: { extra_pnginfo: { workflow: { id: 'flow' } } } })
    const running = await fleet.submit({ prompt: nap(30) })
    await until('it runs', () => fleet.queue.get(running)?.record.status === 'running')
    const sent = await fleet.submit({ prompt: nap(30, 2) })
    const token = fleet.registry.list()[0]?.config.token

    const answer = await fleet.get('/api/jobs?limit=200')
    const { jobs, pagination } = answer.json()
    expect(pagination).toEqual({ offset: 0, limit: 200, total: 3, has_more: false })
    expect(jobs.map(({ id, status, priority }: Record<string, unknown>) => [id, status, priority])).toEqual([
      [sent, 'pending', 2],
      [running, 'in_progress', 1],
      [done, 'completed', 0],
    ])
    expect(jobs[2]).toEqual({
      id: done,
      status: 'completed',
      priority: 0,
      create_time: expect.any(Number),
      execution_start_time: expect.any(Number),
      execution_end_time: expect.any(Number),
      outputs_count: 1,
      preview_output: {
        filename: 'pic_00001_.png',
        subfolder: token,
        type: 'output',
        nodeId: '2',
        mediaType: 'images',
      },
      workflow_id: 'flow',
    })
    expect(jobs[1].execution_start_time).toEqual(expect.any(Number))
    const ids = async (query: string) =>
      (await fleet.get(`/api/jobs?${query}`)).json().jobs.map(({ id }: { id: string }) => id)
    expect(await ids('status=completed')).toEqual([done])
    expect(await ids('status=pending,in_progress&sort_order=asc')).toEqual([running, sent])
    expect(await ids('workflow_id=flow')).toEqual([done])
    expect(await ids('offset=1&limit=1')).toEqual([running])
    expect((await fleet.get('/api/jobs?offset=-5&limit=1')).json().pagination).toEqual({
      offset: 0,
      limit: 1,
      total: 3,
      has_more: true,
    })
    expect((await fleet.get('/jobs')).statusCode).toBe(404)
  })

  it('lists neither what was deleted while it waited nor what was deleted from history', async () => {
    const fleet = await startFleet()
    const jobs = async () => {
      const { jobs, pagination } = (await fleet.get('/api/jobs')).json()
      return [jobs.map(({ id }: { id: string }) => id), pagination.total]
    }
    const forgotten = await fleet.run({ prompt: picture() })
    const kept = await fleet.run({ prompt: picture('pic', 2) })
    const cleared = await fleet.run({ prompt: picture('pic', 3) }, { caller: 'b' })
    const running = await fleet.submit({ prompt: nap(30) })
    await until('it runs', () => fleet.queue.get(running)?.record.status === 'running')
    const sent = await fleet.submit({ prompt: nap(30, 2) })
    const waiting = await fleet.submit({ prompt: nap(30, 3) })
    expect(await jobs()).toEqual([[waiting, sent, running, cleared, kept, forgotten], 6])

    await fleet.post('/queue', { delete: [waiting, sent] })
    await until('the deleted are gone', () => [...fleet.queue.all()].length === 1)
    await fleet.post('/history', { delete: [forgotten, running] })
    await fleet.post('/history', { clear: true }, { 'x-caller': 'b' })
    expect(await jobs()).toEqual([[running, kept], 2])
    expect(await fleet.store.prompts.get(waiting)).toMatchObject({ status: 'cancelled' })
    expect(await fleet.store.prompts.get(forgotten)).toMatchObject({ status: 'succeeded' })
  })

  it.each([
    ['status=done', 'Invalid status value(s): done'],
    ['sort_by=size', 'sort_by must be one of: created_at, execution_duration'],
    ['sort_order=up', 'sort_order must be one of: asc, desc'],
    ['limit=0', 'limit must be a positive integer'],
    ['limit=x', 'limit must be a positive integer'],
    ['offset=x', 'offset must be an integer'],
  ])('refuses %s', async (query, error) => {
    const fleet = await startFleet({ workers: [] })
    const answer = await fleet.get(`/api/jobs?${query}`)
    expect([answer.statusCode, answer.json()]).toEqual([400, { error }])
  })

  it('tells all of one job, before and after its end', async () => {
    const fleet = await startFleet()
    const done = await fleet.run({ prompt: picture(), client_id: 'c' })
    const detail = (await fleet.get(`/api/jobs/${done}`, { host: 'h' })).json()
    expect(detail).toMatchObject({
      id: done,
      status: 'completed',
      outputs: {
        2: { images: [{ filename: 'pic_00001_.png', url: expect.stringMatching(/^http:\/\/h\/api\/view\?/) }] },
      },
      execution_status: { completed: true },
      workflow: { prompt: picture(), extra_data: { client_id: 'c' } },
    })
    const running = await fleet.submit({ prompt: nap(30) })
    await until('it runs', () => fleet.queue.get(running)?.record.status === 'running')
    const live = (await fleet.get(`/api/jobs/${running}`)).json()
    expect(live).toMatchObject({ id: running, status: 'in_progress', workflow: { prompt: nap(30) } })
    expect(live).not.toHaveProperty('outputs')
  })

  it('says what failed, and knows no job of another owner', async () => {
    const fleet = await startFleet({ workers: [] })
    const admitted = await fleet.queue.admit(aPrompt({ promptId: 'p' }))
    if (admitted.kind !== 'admitted') throw new Error('known already')
    const summary = '{"execution_error": {"node_id": "3"}, "outputs_count": 0}'
    await fleet.queue.finish(admitted.prompt, 0, anOutcome({ status: 'failed', summary }), { messages: [], log: '' })
    expect((await fleet.get('/api/jobs?status=failed')).json().jobs).toMatchObject([
      { id: 'p', status: 'failed', execution_error: { node_id: '3' }, outputs_count: 0 },
    ])
    for (const [id, owner] of [
      ['p', 'bob'],
      ['nobody', 'open'],
    ] as const) {
      const answer = await fleet.get(`/api/jobs/${id}`, { 'x-owner': owner })
      expect([answer.statusCode, answer.body]).toEqual([404, '{"error": "Job not found"}'])
    }
    expect((await fleet.get('/api/jobs', { 'x-owner': 'bob' })).json().jobs).toEqual([])
  })
})

describe('cancelling jobs', () => {
  it('stops what runs, deletes what waits, and says whether anything was done', async () => {
    const fleet = await startFleet()
    const running = await fleet.submit({ prompt: nap(30) })
    await until('it runs', () => fleet.queue.get(running)?.record.status === 'running')
    const sent = await fleet.submit({ prompt: nap(30, 2) })
    const waiting = await fleet.submit({ prompt: nap(30, 3) })
    expect((await fleet.post(`/api/jobs/${waiting}/cancel`, '')).body).toBe('{"cancelled": true}')
    expect(fleet.queue.get(waiting)).toBeUndefined()
    expect((await fleet.post(`/api/jobs/${waiting}/cancel`, '')).body).toBe('{"cancelled": false}')
    expect((await fleet.post('/api/jobs/cancel', { job_ids: [running, sent] }, { 'x-owner': 'bob' })).body).toBe(
      '{"cancelled": false}',
    )
    expect((await fleet.post('/api/jobs/cancel', { job_ids: [running, sent] })).body).toBe('{"cancelled": true}')
    await until('both are gone', () => [...fleet.queue.all()].length === 0)
    expect((await fleet.get(`/api/jobs/${running}`)).json()).toMatchObject({ status: 'cancelled' })
  })

  it.each([
    ['', { error: 'Request body must be valid JSON' }],
    ['{"job_ids": "x"}', { error: 'job_ids must be a list' }],
    ['[]', { error: 'job_ids must be a list' }],
    ['{"job_ids": ["x", 5]}', { error: 'job_ids contains invalid id(s)', invalid_ids: ['x', '5'] }],
  ])('refuses the batch %j', async (body, expected) => {
    const fleet = await startFleet({ workers: [] })
    const answer = await fleet.post('/api/jobs/cancel', body)
    expect([answer.statusCode, answer.json()]).toEqual([400, expected])
  })
})
